// SPDX-License-Identifier: Apache-2.0
//! Addresses at which a node serves strangers: its own, which come and go, and those that lead to it.

use std::net::SocketAddr;
use std::time::Duration;

use super::stage::{SHARED, eventually, ip};
use crate::client::{Asker, Outcome, Question};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};

#[test]
fn an_address_that_a_node_gets_later_serves_node_ports_until_it_goes() {
    let stage = &*SHARED;
    let service = Service {
        name: "later",
        kind: "NodePort",
        number: 46,
        node_port: Some(30046),
        ..Service::default()
    };
    stage.serve(&service, &[&stage.web]);
    let node = &stage.lab.node(1).place.netns;
    let mut client = Asker::start(stage.program(), &stage.lab.outside);
    // Nobody else has the address: who is not served gets no answer.
    let timeout = Duration::from_millis(300);
    for (vip, via, length) in
        [("203.0.113.5", "192.168.50.1", 32), ("2001:db8:71::5", "fd50::1", 128)]
    {
        let to = SocketAddr::new(ip(vip), 30046);
        stage.lab.outside.netns.ip(&format!("route add {vip} via {via}"));
        let nodad = if length == 128 { " nodad" } else { "" };
        for _ in 0..2 {
            node.ip(&format!("addr add {vip}/{length} dev eth0{nodad}"));
            let questions = ["tcp", "udp"].map(|protocol| Question { protocol, to, timeout });
            eventually("the address is served", || {
                client.ask(&questions).iter().all(|outcome| outcome.is_from("web"))
            });
            node.ip(&format!("addr del {vip}/{length} dev eth0"));
            eventually("it is not any more", || {
                client.ask(&questions).iter().all(|o| matches!(o, Outcome::Error { .. }))
            });
        }
    }
}

/// The first node, to which these addresses lead, sends the request on under its own address.
#[test]
fn load_balancer_and_external_addresses_reach_a_backend_on_another_node() {
    let stage = &*SHARED;
    let service = Service {
        name: "remote",
        kind: "LoadBalancer",
        number: 48,
        node_port: Some(30048),
        external_ips: vec![ip("198.51.100.48"), ip("2001:db8:51::48")],
        ingress: vec![ip("192.0.2.48"), ip("2001:db8:c0::48")],
        ..Service::default()
    };
    stage.serve(&service, &[&stage.far]);
    for v6 in [false, true] {
        let ips = [service.external_ips[usize::from(v6)], service.ingress[usize::from(v6)]];
        for to in ips.map(|ip| SocketAddr::new(ip, SERVICE_PORT)) {
            for protocol in ["tcp", "udp", "udp-unconnected"] {
                let outcome = stage.ask(&stage.lab.outside, protocol, to);
                let Outcome::Answer { name, peer, seen } = &outcome else {
                    panic!("{protocol} to {to}: {outcome:?}");
                };
                let found = (name.as_str(), peer.ip(), *seen);
                assert_eq!(found, ("far", node_ip(1, v6), to), "{protocol}");
            }
        }
    }
}
