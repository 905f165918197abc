// SPDX-License-Identifier: Apache-2.0
//! Direct server return, of which the LB node hears the clients alone: what anybody can make up
//! holds its place in `flows` for a short time.

use culvert::datapath::Options;
use culvert::datapath::aging::Aging;
use culvert::datapath::host;

use super::dsr::{request, serve};
use super::host::flows;
use crate::support::dsr::KEY;
use crate::support::node::{FAMILIES, Family, Node, TC_REDIRECT};
use crate::support::objects::{Served, TCP};
use crate::support::packet::{ACK, Packet, SYN};
use crate::support::pins::config;

const PLACES: u32 = 64;
const SYN_TIMEOUT: u32 = 6;

fn change(options: &mut Options) {
    options.config.dsr_dispatch = culvert::abi::DsrDispatch::Option as u8;
    options.config.tcp_syn_timeout = SYN_TIMEOUT;
    options.map_sizes.insert("flows".to_owned(), PLACES);
}

fn node() -> Node {
    let node = Node::with_options(change);
    node.objects.maps().set_dsr_keys([KEY, [0; 16]]).unwrap();
    node
}

fn service(node: &Node, family: Family) -> Served<'_> {
    serve(node, &family.at(family.vip, 80), TCP, &[&family.at(family.remote, 8080)])
}

#[track_caller]
fn send(node: &Node, family: Family, port: u16, flags: u8) {
    let mut packet = Packet { flags, ..request(family, TCP, 80) };
    packet.src.set_port(port);
    assert_eq!(node.wire(&packet).0, TC_REDIRECT, "{:?}", node.outcomes());
}

/// A tick passes for every flow, and the collector has read the whole of `flows`.
fn tick(node: &Node, aging: &mut Aging) {
    node.let_pass(1);
    let flows = &node.objects.maps().flows;
    let passes = aging.counts().passes;
    while aging.counts().passes == passes {
        aging.tick(flows, host::ticks_now()).unwrap();
    }
}

fn aging() -> Aging {
    Aging::new(&culvert::abi::Config { tcp_syn_timeout: SYN_TIMEOUT, ..config() })
}

/// Whether `port`'s connection is confirmed.
fn confirmed(node: &Node, port: u16) -> bool {
    let flows = node.objects.maps().flows.entries().unwrap();
    flows.iter().any(|(key, _)| key.sport.get() == port)
}

#[test]
fn a_flood_of_handshakes_gives_its_places_back_and_who_speaks_stays() {
    for family in FAMILIES {
        let node = node();
        let _service = service(&node, family);
        let mut aging = aging();
        for flags in [SYN, ACK] {
            send(&node, family, 1, flags);
        }
        for port in 1000..1100 {
            for flags in [SYN, ACK] {
                send(&node, family, port, flags);
            }
        }
        assert_eq!(flows(&node).0, PLACES as usize, "as many as there are places");
        for flags in [SYN, ACK] {
            send(&node, family, 2, flags);
        }
        assert!(!confirmed(&node, 2), "there was a place");

        // One more than the timeout, since this tick may end while the test runs.
        for _ in 0..SYN_TIMEOUT + 2 {
            tick(&node, &mut aging);
            for port in [1, 2] {
                send(&node, family, port, ACK);
            }
        }
        assert!(confirmed(&node, 1) && confirmed(&node, 2));
        assert_eq!(flows(&node).0, 4, "the flood's have gone");

        // Who has spoken once may be silent for longer.
        for _ in 0..3 * SYN_TIMEOUT {
            tick(&node, &mut aging);
        }
        assert!(confirmed(&node, 1) && confirmed(&node, 2));
    }
}

#[test]
fn a_silent_client_is_met_again_with_its_backend() {
    for family in FAMILIES {
        let node = node();
        let names: Vec<String> = (0..8).map(|n| family.at(family.remote, 8080 + n)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &names);
        let mut aging = aging();
        for port in 1000..1008 {
            let mut data = Packet { flags: ACK, ..request(family, TCP, 80) };
            data.src.set_port(port);
            let to = super::dsr::marked(&node, &Packet { flags: SYN, ..data.clone() }).0.dst;
            send(&node, family, port, ACK);
            for _ in 0..SYN_TIMEOUT + 2 {
                tick(&node, &mut aging);
            }
            assert!(!confirmed(&node, port));
            assert_eq!(super::dsr::marked(&node, &data).0.dst, to);
        }
    }
}
