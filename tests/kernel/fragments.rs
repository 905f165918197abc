// SPDX-License-Identifier: Apache-2.0
//! Fragments, one at a time: the ports are in the first, the others follow it.

use culvert::abi::Outcome;

use super::host::{flows, node_port, request};
use crate::support::node::{FAMILIES, Node, TC_DROP, TC_NEXT, TC_REDIRECT};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::icmp::{Echo, IcmpError};
use crate::support::packet::pieces::{cut, join};
use crate::support::packet::{ACK, Packet, tcp, udp};

/// More than what one datagram may have held.
const MANY: usize = 12;

fn long(packet: Packet) -> Packet {
    Packet { payload: (0..3000_u32).map(|n| (n * 7) as u8).collect(), ..packet }
}

/// Sends the fragments in order through `program`; returns the datagram as it leaves.
#[track_caller]
fn through(node: &Node, program: &str, device: u32, packet: &Packet) -> Packet {
    let sent: Vec<Vec<u8>> = cut(&packet.bytes(), 1000)
        .iter()
        .map(|piece| {
            let (action, frame) = node.raw(program, device, piece);
            let next = if program == "to_netdev" { TC_NEXT } else { TC_REDIRECT };
            assert_eq!(action, next, "{:?}", node.outcomes());
            frame
        })
        .collect();
    Packet::parse(&join(&sent))
}

#[test]
fn fragments_follow_the_first_from_outside_and_back() {
    for family in FAMILIES {
        for (proto, backend) in
            [(UDP, family.remote), (UDP, family.pod), (TCP, family.remote), (TCP, family.pod)]
        {
            let node = Node::new();
            let local = backend == family.pod;
            let backend = family.at(backend, 8080);
            let _service = node.objects.serve(node_port(family, proto), &[&backend]);
            let request = long(Packet { flags: ACK, ..request(family, proto) });
            let sent = through(&node, "from_netdev", node.uplink, &request);
            assert_eq!((sent.dst, &sent.payload), (backend.parse().unwrap(), &request.payload));
            let source = if local { request.src.ip() } else { family.node.parse().unwrap() };
            assert_eq!((sent.src.ip(), sent.ttl), (source, request.ttl - 1));

            let answer = long(sent.answer(ACK));
            let reply = if local {
                through(&node, "from_container", node.pod, &answer)
            } else {
                through(&node, "from_netdev", node.uplink, &answer)
            };
            assert_eq!((reply.src, reply.dst), (request.dst, request.src));
            // Whole datagrams of the same connection share its flow.
            let whole = node.wire_ok(&Packet { payload: vec![1], ..request.clone() });
            assert_eq!((whole.src, whole.dst), (sent.src, sent.dst));
        }
    }
}

#[test]
fn a_pods_fragments_reach_a_service_and_the_hosts_answers_come_back() {
    for family in FAMILIES {
        let node = Node::new();
        let vip = family.at(family.vip, 53);
        let backend = family.at(family.remote, 53);
        let _service = node.objects.serve(Frontend::cluster_ip(&vip, UDP), &[&backend]);
        let request = long(udp(&family.at(family.pod, 40001), &vip));
        let sent = through(&node, "from_container", node.pod, &request);
        assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));
        let reply = through(&node, "from_netdev", node.uplink, &long(sent.answer(0)));
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));

        // A backend in the host's own network answers through to_netdev.
        let node = Node::new();
        let backend = family.at(family.node, 53);
        let _service = node.objects.serve(node_port(family, UDP), &[&backend]);
        let request = super::host::request(family, UDP);
        let (action, frame) = node.wire(&request);
        assert_eq!(action, TC_NEXT);
        let answer = long(Packet::parse(&frame).answer(0));
        let reply = through(&node, "to_netdev", node.uplink, &answer);
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

#[test]
fn a_later_fragment_that_comes_first_is_held() {
    for family in FAMILIES {
        let node = Node::new();
        let _service = node.objects.serve(node_port(family, UDP), &[&family.at(family.remote, 53)]);
        let pieces = cut(&long(request(family, UDP)).bytes(), 1000);
        let [first, second, third, last] = &pieces[..] else { panic!("{}", pieces.len()) };
        for early in [last, third] {
            assert_eq!(node.raw("from_netdev", node.uplink, early).0, TC_DROP);
        }
        assert_eq!(node.counted(Outcome::Held), 2);
        let sent: Vec<_> = [first, second, third, last]
            .iter()
            .map(|piece| node.raw("from_netdev", node.uplink, piece))
            .inspect(|(action, _)| assert_eq!(*action, TC_REDIRECT))
            .map(|(_, frame)| frame)
            .collect();
        // What the first played meanwhile has left no trace in it.
        assert_eq!(Packet::parse(&join(&sent)).payload, long(request(family, UDP)).payload);
        assert_eq!(node.counted(Outcome::Held), 2, "their first was here");
    }
}

#[test]
fn only_so_many_fragments_of_a_datagram_are_held() {
    for family in FAMILIES {
        let node = Node::new();
        let packet = request(family, UDP);
        let packet = Packet { payload: vec![5; 64 * MANY], ..packet };
        let pieces = cut(&packet.bytes(), 64);
        for (number, piece) in pieces[1..].iter().enumerate() {
            let (action, frame) = node.raw("from_netdev", node.uplink, piece);
            let expected = if number < 8 { (TC_DROP, piece.len()) } else { (TC_NEXT, piece.len()) };
            assert_eq!((action, frame.len()), expected, "{number}");
        }
        assert_eq!(node.counted(Outcome::Held), 8);
    }
}

#[test]
fn fragments_that_nobody_translates_pass_untouched() {
    for family in FAMILIES {
        let node = Node::new();
        let _service = node.objects.serve(node_port(family, UDP), &[&family.at(family.remote, 53)]);
        let client = family.at(family.client, 40001);
        for packet in [
            udp(&client, &family.at(family.node, 5000)),
            udp(&client, &family.at(family.remote, 5000)),
            tcp(&client, &family.at(family.node, 5000), ACK),
        ] {
            for piece in cut(&long(packet).bytes(), 1000) {
                assert_eq!(node.raw("from_netdev", node.uplink, &piece), (TC_NEXT, piece));
            }
        }
        // To elsewhere and of protocols without ports: in any order.
        let elsewhere = udp(&client, &family.at(family.remote, 5001)).bytes();
        let mut ping = Echo::request(family.client, family.node);
        ping.body.resize(3000, 1);
        let ping = cut(&ping.bytes(), 1000);
        for piece in ping.iter().rev().chain(cut(&elsewhere, 16).iter().rev()) {
            assert_eq!(node.raw("from_netdev", node.uplink, piece), (TC_NEXT, piece.clone()));
        }
        assert_eq!((node.counted(Outcome::Held), flows(&node)), (0, (0, 0)));
    }
}

#[test]
fn a_pods_own_fragments_pass_between_pods() {
    for family in FAMILIES {
        let node = Node::new();
        let packet = long(udp(&family.at(family.pod, 1), &family.at(family.other_pod, 2)));
        let sent = through(&node, "from_container", node.pod, &packet);
        assert_eq!((sent.src, sent.dst, &sent.payload), (packet.src, packet.dst, &packet.payload));
        assert_eq!(flows(&node), (0, 0));
        let forged = long(udp(&family.at(family.other_pod, 1), &family.at(family.remote, 2)));
        for piece in cut(&forged.bytes(), 1000) {
            assert_eq!(node.raw("from_container", node.pod, &piece).0, TC_DROP);
        }
    }
}

#[test]
fn a_fragment_too_big_for_the_next_link_is_told_to_the_sender() {
    for family in FAMILIES {
        let node = Node::new();
        let _service = node.objects.serve(node_port(family, UDP), &[&family.at(family.remote, 53)]);
        let request = request(family, UDP);
        node.wire_ok(&request);
        let piece = &cut(&long(request.clone()).bytes(), 1600)[0];
        let (_, frame) = node.raw("from_netdev", node.uplink, piece);
        assert_eq!(node.counted(Outcome::DropTooBig), 1);
        if family.v6 {
            // Whoever is told looks for the ports behind the fragment header.
            let icmp = &frame[14 + 40..];
            assert_eq!((icmp[0], icmp[8 + 6], icmp[8 + 40]), (2, 44, UDP));
            assert_eq!(icmp[8 + 48..8 + 52], piece[14 + 48..14 + 52]);
            crate::support::packet::icmp::check_icmpv6(&frame);
        } else {
            let error = IcmpError::parse(&frame);
            assert_eq!((error.kind, error.code), (3, 4));
            assert_eq!(error.quoted, (request.src, request.dst));
        }
    }
}
