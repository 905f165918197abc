// SPDX-License-Identifier: Apache-2.0
//! How long a TCP flow lives in each state: the programs and the collector judge alike.

use culvert::abi::{Config, Flow, FlowKey, flow_flag, flow_tcp};
use culvert::datapath::aging::{Timeouts, expired};
use culvert::datapath::host::ticks_now;

use super::host::{handshake, node_port, request};
use crate::support::node::{FAMILIES, Node};
use crate::support::objects::TCP;
use crate::support::packet::{ACK, Packet};
use crate::support::pins::config;

/// Each has another one, so that none stands in for another.
fn timeouts(config: &mut Config) {
    config.tcp_syn_timeout = 20;
    config.tcp_established_timeout = 200;
    config.tcp_closing_timeout = 5;
}

const TALKS: u8 = flow_tcp::SYN | flow_tcp::ACK;
const ENDS: u8 = TALKS | flow_tcp::FIN;
const BREAKS: u8 = TALKS | flow_tcp::RST;

/// State, flags beside those of its direction, what either side has sent, its life in ticks.
const STATES: [(&str, u16, u8, u8, u32); 11] = [
    ("one SYN", flow_flag::NEW, flow_tcp::SYN, 0, 20),
    ("both SYNs", flow_flag::NEW, flow_tcp::SYN, flow_tcp::SYN, 20),
    ("refused", flow_flag::NEW, flow_tcp::SYN, BREAKS, 5),
    ("established", 0, TALKS, TALKS, 200),
    ("met in its middle", 0, flow_tcp::ACK, flow_tcp::ACK, 200),
    ("one FIN", 0, ENDS, TALKS, 200),
    ("both FINs", 0, ENDS, ENDS, 5),
    ("its own RST", 0, BREAKS, TALKS, 5),
    ("the other's RST", 0, TALKS, BREAKS, 5),
    ("one side, unproven", flow_flag::DSR | flow_flag::UNPROVEN, TALKS, 0, 20),
    ("one side, one FIN", flow_flag::DSR, ENDS, 0, 5),
];

/// Puts `entries` where a flow with `flags` lives, last seen `idle` ticks before `now`.
fn store(node: &Node, entries: &[(FlowKey, Flow)], state: (u16, u8, u8), last_seen: u32) {
    let maps = node.objects.maps();
    for map in [&maps.flows, &maps.flows_new] {
        for (key, _) in map.entries().unwrap() {
            map.remove(&key).unwrap();
        }
    }
    let (flags, own, peer) = state;
    let map = if flags & flow_flag::NEW != 0 { &maps.flows_new } else { &maps.flows };
    for (key, flow) in entries {
        let reply = flow.flags & flow_flag::REPLY != 0;
        let (tcp_own, tcp_peer) = if reply { (peer, own) } else { (own, peer) };
        let flags = flow.flags | flags;
        map.set(key, &Flow { flags, tcp_own, tcp_peer, last_seen, ..*flow }).unwrap();
    }
}

#[test]
fn a_flow_is_a_miss_exactly_when_the_collector_may_take_it() {
    let node = Node::with(timeouts);
    let mut same = config();
    timeouts(&mut same);
    let same = Timeouts::from(&same);
    for family in FAMILIES {
        let service =
            node.objects.serve(node_port(family, TCP), &[&family.at(family.remote, 8080)]);
        let request = request(family, TCP);
        let sent = handshake(&node, &request);
        let entries: Vec<_> = node.objects.maps().flows.entries().unwrap();
        let entries: Vec<_> =
            entries.into_iter().filter(|(key, _)| key.saddr.is_v4() != family.v6).collect();
        assert_eq!(entries.len(), 2);
        // Whoever has no flow gets another backend.
        let other = node.objects.target(&family.at(family.remote, 9090));
        service.set_backends(&[other]);
        let data = Packet { flags: ACK, ..request };

        for (name, flags, own, peer, life) in STATES {
            for (idle, dead) in [(life, false), (life + 1, true)] {
                let found = loop {
                    let now = ticks_now();
                    store(&node, &entries, (flags, own, peer), now.wrapping_sub(idle));
                    let (key, flow) = stored(&node);
                    let collected = expired(&flow, key.proto, now, &same);
                    let met = node.wire_ok(&data).dst;
                    // No tick has passed meanwhile, on neither of the two clocks.
                    let seen = stored(&node).1.last_seen;
                    if ticks_now() == now && seen == now {
                        assert!([sent.dst, other.address].contains(&met));
                        break (collected, met != sent.dst);
                    }
                };
                assert_eq!(found, (dead, dead), "{name}, {idle} ticks idle, {family:?}");
            }
        }
    }
}

/// The client's entry, wherever it lives.
fn stored(node: &Node) -> (FlowKey, Flow) {
    let maps = node.objects.maps();
    let all = [&maps.flows_new, &maps.flows].map(|map| map.entries().unwrap()).concat();
    let request = |(_, flow): &(FlowKey, Flow)| flow.flags & flow_flag::REPLY == 0;
    // The one that a packet has just opened goes before one that it found expired.
    let mut found: Vec<_> = all.into_iter().filter(request).collect();
    found.sort_by_key(|(_, flow)| flow.last_seen);
    found.pop().unwrap()
}
