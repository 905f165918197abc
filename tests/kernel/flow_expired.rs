// SPDX-License-Identifier: Apache-2.0
//! Entries that have expired and are still there, for up to a minute, and what opens over them.

use culvert::abi::{Config, Flow, FlowKey, flow_flag, flow_tcp};

use super::host::{flows, handshake, load_balancer, node_port, request};
use crate::support::node::{FAMILIES, Family, Node};
use crate::support::objects::TCP;
use crate::support::packet::{ACK, FIN, Packet, SYN, tcp};

const CLOSING: u32 = 5;

fn timeouts(config: &mut Config) {
    config.tcp_closing_timeout = CLOSING;
}

/// The entry of `request`'s answers, and whether it is established.
fn answers(node: &Node, request: &Packet) -> (FlowKey, Flow, bool) {
    let maps = node.objects.maps();
    for (map, established) in [(&maps.flows, true), (&maps.flows_new, false)] {
        for (key, flow) in map.entries().unwrap() {
            let ends = (flow.saddr.ip(), flow.sport.get(), flow.dport.get());
            if flow.flags & flow_flag::REPLY != 0
                && ends == (request.dst.ip(), request.dst.port(), request.src.port())
            {
                return (key, flow, established);
            }
        }
    }
    panic!("nothing translates the answers to {request:?}");
}

/// A connection of another service's that had `key`, and was closed too long ago.
fn leave_behind(node: &Node, key: &FlowKey, flow: &Flow) {
    let ended = flow_tcp::SYN | flow_tcp::ACK | flow_tcp::FIN;
    let expired = Flow {
        sport: 9999.into(),
        flags: flow_flag::REPLY,
        tcp_own: ended,
        tcp_peer: ended,
        last_seen: flow.last_seen - CLOSING - 1,
        ..*flow
    };
    node.objects.maps().flows.set(key, &expired).unwrap();
}

/// Requests of one client port to two services on `host`: the second one's is changed.
fn two_requests(family: Family) -> [Packet; 2] {
    let client = family.at(family.client, 40001);
    [80, 81].map(|port| tcp(&client, &family.at(family.vip, port), SYN))
}

#[test]
fn a_half_open_connection_keeps_its_port_beside_an_expired_entry_of_its_answers() {
    for family in FAMILIES {
        let node = Node::with(timeouts);
        let _service = node.objects.serve(node_port(family, TCP), &[&family.at(family.pod, 8080)]);
        let request = request(family, TCP);
        let sent = node.wire_ok(&request);
        let (key, flow, _) = answers(&node, &request);
        leave_behind(&node, &key, &flow);

        // A tick later the first packet looks after its other direction.
        node.let_pass(1);
        assert_eq!(node.wire_ok(&request).src, sent.src);
        let reply = node.leave_ok(&sent.answer(SYN | ACK));
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
        assert_eq!(node.wire_ok(&Packet { flags: ACK, ..request.clone() }).src, sent.src);
        assert!(answers(&node, &request).2, "it is established");
        assert_eq!(flows(&node), (2, 0));
    }
}

#[test]
fn a_connection_keeps_its_port_when_its_answers_entry_was_lost_and_another_expired_there() {
    for family in FAMILIES {
        let node = Node::with(timeouts);
        let backend = family.at(family.pod, 8080);
        let _one = node.objects.serve(load_balancer(family, 80), &[&backend]);
        let _two = node.objects.serve(load_balancer(family, 81), &[&backend]);
        let sent = two_requests(family).map(|request| {
            let syn = node.wire_ok(&request);
            node.leave_ok(&syn.answer(SYN | ACK));
            node.wire_ok(&Packet { flags: ACK, ..request.clone() });
            (request, syn)
        });
        assert_ne!(sent[0].1.src, sent[1].1.src);
        let (request, syn) = &sent[1];
        let (key, flow, established) = answers(&node, request);
        assert!(established);
        leave_behind(&node, &key, &flow);

        node.let_pass(1);
        let data = Packet { flags: ACK, ..request.clone() };
        assert_eq!(node.wire_ok(&data).src, syn.src);
        let reply = node.leave_ok(&syn.answer(ACK));
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

#[test]
fn a_connection_does_not_take_over_the_end_of_an_expired_one_from_the_same_port() {
    for family in FAMILIES {
        let node = Node::with(timeouts);
        let _service =
            node.objects.serve(node_port(family, TCP), &[&family.at(family.remote, 8080)]);
        let request = request(family, TCP);
        let syn = handshake(&node, &request);
        node.wire_ok(&Packet { flags: FIN | ACK, ..request.clone() });
        node.wire_ok(&syn.answer(FIN | ACK));
        node.let_pass(CLOSING + 1);

        let again = handshake(&node, &request);
        assert_eq!((again.src, again.dst), (syn.src, syn.dst));
        assert_eq!(flows(&node), (2, 0));
        for (key, flow) in node.objects.maps().flows.entries().unwrap() {
            assert_eq!((flow.tcp_own | flow.tcp_peer) & flow_tcp::FIN, 0, "{key:?}");
        }
    }
}
