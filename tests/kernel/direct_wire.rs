// SPDX-License-Identifier: Apache-2.0
//! Connections straight to a pod, of which no flow tells, beside those through a service between the
//! same ends.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};

use culvert::abi::DsrDispatch;

use super::dsr_apart_wire::connect;
use super::dsr_wires;
use super::wire::{NODE_PORT, Wires, at, node_port};
use crate::support::netns::NetNs;
use crate::support::node::{FAMILIES, Family};
use crate::support::objects::{Frontend, TCP};

const PORT: u16 = 40000;

/// The direct connection is the one with number 0.
const ORDERS: [[usize; 2]; 2] = [[0, 1], [1, 0]];

/// A client at an address, and a server at another.
struct Pair<'a> {
    client: (&'a NetNs, &'a str),
    server: (&'a NetNs, SocketAddr),
}

impl Pair<'_> {
    /// One client port speaks with the server through both of `to`, opened in this order. Who comes
    /// second makes way: the server sees another port.
    fn speak_through(&self, to: [SocketAddr; 2]) {
        let (client, own) = self.client;
        let from = SocketAddr::new(own.parse::<IpAddr>().unwrap(), PORT);
        let (server, backend) = self.server;
        let listener = server.run(|| TcpListener::bind(backend).unwrap());
        let mut both = to.map(|to| {
            let stream = client.run(|| connect(from, to));
            let (accepted, peer) = listener.accept().unwrap();
            (stream, accepted, peer)
        });
        for _ in 0..3 {
            for (client, server, _) in &mut both {
                let mut byte = [7];
                client.write_all(&byte).unwrap();
                server.read_exact(&mut byte).unwrap();
                server.write_all(&byte).unwrap();
                client.read_exact(&mut byte).unwrap();
            }
        }
        assert_eq!(both[0].2.port(), PORT);
        assert_ne!(both[1].2.port(), PORT);
    }
}

#[test]
fn a_node_port_connection_keeps_clear_of_a_direct_one() {
    beside_a_node_port(|family| family.at(family.pod, 8080), |wires| &wires.pod);
}

#[test]
fn one_to_the_nodes_own_server_keeps_clear_of_it() {
    beside_a_node_port(|family| family.at(family.node, 8443), |wires| &wires.node);
}

/// `backend` is served in `home`.
fn beside_a_node_port(backend: fn(Family) -> String, home: fn(&Wires) -> &NetNs) {
    for family in FAMILIES {
        for [first, second] in ORDERS {
            let wires = Wires::new();
            let backend = backend(family);
            let _service = wires.objects.serve(node_port(family, TCP), &[&backend]);
            let to = [backend.parse().unwrap(), at(family, family.node, NODE_PORT)];
            let pair =
                Pair { client: (&wires.outside, family.client), server: (home(&wires), to[0]) };
            pair.speak_through([to[first], to[second]]);
        }
    }
}

#[test]
fn a_pods_connection_keeps_clear_of_its_own_direct_one() {
    for family in FAMILIES {
        for [first, second] in ORDERS {
            let wires = Wires::new();
            let to = [at(family, family.remote, 8080), at(family, family.vip, 80)];
            let frontend = Frontend::cluster_ip(&to[1].to_string(), TCP);
            let _service = wires.objects.serve(frontend, &[&to[0].to_string()]);
            let pair = Pair { client: (&wires.pod, family.pod), server: (&wires.outside, to[0]) };
            pair.speak_through([to[first], to[second]]);
        }
    }
}

/// By option, what was dispatched and what was not look alike once the first packets are through:
/// a direct connection that comes second finds its tuple taken.
#[test]
fn one_that_the_backend_answers_itself_keeps_clear_of_it() {
    for (dispatch, orders) in [(DsrDispatch::Option, &ORDERS[..1]), (DsrDispatch::Ipip, &ORDERS)] {
        for family in FAMILIES {
            for [first, second] in orders {
                let wires = dsr_wires::Wires::new(dispatch, false);
                let _service = wires.serve(family, TCP);
                let to = [at(family, family.pod, 8080), at(family, family.vip, 80)];
                let pair =
                    Pair { client: (&wires.client, family.client), server: (&wires.pod, to[0]) };
                pair.speak_through([to[*first], to[*second]]);
            }
        }
    }
}
