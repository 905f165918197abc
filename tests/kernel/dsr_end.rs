// SPDX-License-Identifier: Apache-2.0
//! Direct server return by option, one packet at a time: the backend's node.

use culvert::abi::{DsrDispatch, Outcome};

use super::dsr::{node, request};
use super::host::flows;
use crate::support::dsr::{self, KEY, Mark};
use crate::support::node::{FAMILIES, Family, Node, POD_MAC, TC_DROP, TC_NEXT, TC_REDIRECT, V4};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, Packet, SYN};

/// What an LB node makes of `request`: to the pod, from `port`.
pub(super) fn dispatched(family: Family, request: &Packet, port: u16) -> (Packet, Mark) {
    let mark = Mark { service: request.dst, client_port: Some(request.src.port()) };
    let mut packet = request.clone();
    packet.dst = family.at(family.pod, 8080).parse().unwrap();
    packet.src.set_port(port);
    (packet, mark)
}

/// Delivers `packet` with `mark`; the pod must get it without the option.
#[track_caller]
fn deliver(node: &Node, packet: &Packet, mark: &Mark) -> Packet {
    let frame = dsr::with_option(packet, &dsr::option(&KEY, packet, mark));
    let (action, out) = node.raw("from_netdev", node.uplink, &frame);
    assert_eq!(action, TC_REDIRECT, "{packet:?}: {:?}", node.outcomes());
    let delivered = Packet::parse(&out);
    assert_eq!((delivered.src, delivered.dst), (packet.src, packet.dst));
    assert_eq!((delivered.dmac, &delivered.payload), (POD_MAC, &packet.payload));
    delivered
}

#[test]
fn the_pod_answers_from_the_service_address() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            for flags in [SYN, ACK] {
                let node = node();
                let request = Packet {
                    flags: if proto == TCP { flags } else { 0 },
                    ..request(family, proto, 80)
                };
                let (packet, mark) = dispatched(family, &request, 40001);
                let delivered = deliver(&node, &packet, &mark);
                let answer = node.leave_ok(&delivered.answer(flags | ACK));
                assert_eq!((answer.src, answer.dst), (request.dst, request.src));
            }
        }
    }
}

#[test]
fn a_changed_client_port_is_changed_back() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let one = request(family, proto, 80);
            let two = request(family, proto, 81);
            let (packet, mark) = dispatched(family, &one, 40001);
            deliver(&node, &packet, &mark);
            let (changed, mark) = dispatched(family, &two, 50001);
            deliver(&node, &changed, &mark);
            let answer = node.leave_ok(&changed.answer(SYN | ACK));
            assert_eq!((answer.src, answer.dst), (two.dst, two.src));
            let answer = node.leave_ok(&packet.answer(SYN | ACK));
            assert_eq!((answer.src, answer.dst), (one.dst, one.src));
        }
    }
}

#[test]
fn later_packets_need_no_option() {
    for family in FAMILIES {
        let node = node();
        let request = request(family, TCP, 80);
        let (syn, mark) = dispatched(family, &request, 40001);
        deliver(&node, &syn, &mark);
        node.leave_ok(&syn.answer(SYN | ACK));
        let sent = node.wire_ok(&Packet { flags: ACK, ..syn.clone() });
        assert_eq!((sent.src, sent.dst, sent.dmac), (syn.src, syn.dst, POD_MAC));
        assert_eq!(flows(&node), (2, 0));
        let answer = node.leave_ok(&syn.answer(ACK));
        assert_eq!((answer.src, answer.dst), (request.dst, request.src));
    }
}

#[test]
fn strangers_tags_are_refused_and_counted() {
    for family in FAMILIES {
        let node = node();
        let request = request(family, TCP, 80);
        let (packet, mark) = dispatched(family, &request, 40001);
        let right = dsr::option(&KEY, &packet, &mark);
        let other =
            Packet { src: family.at(family.client, 40002).parse().unwrap(), ..packet.clone() };
        let mut forged = vec![
            dsr::option(b"another key here", &packet, &mark),
            dsr::option(&KEY, &other, &mark),
            // The plain form, which everybody can write.
            dsr::option(&KEY, &packet, &Mark { client_port: None, ..mark }),
        ];
        for last in [right.len() - 1, right.len() - if family.v6 { 8 } else { 6 }] {
            let mut tag = right.clone();
            tag[last] ^= 1;
            forged.push(tag);
        }
        for (count, option) in (1..).zip(&forged) {
            let frame = dsr::with_option(&packet, option);
            assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_DROP, "{option:02x?}");
            assert_eq!(node.counted(Outcome::DropDsrTag), count);
        }
        assert_eq!(flows(&node), (0, 0));
    }
}

#[test]
fn the_plain_form_is_read_where_the_switch_says_so() {
    for family in FAMILIES {
        let node = Node::with(|config| {
            config.dsr_dispatch = DsrDispatch::Option as u8;
            config.dsr_plain_in = 1;
        });
        let request = request(family, UDP, 80);
        let (packet, mark) = dispatched(family, &request, 40001);
        let mark = Mark { client_port: None, ..mark };
        let delivered = deliver(&node, &packet, &mark);
        let answer = node.leave_ok(&delivered.answer(0));
        assert_eq!((answer.src, answer.dst), (request.dst, request.src));
    }
}

#[test]
fn malformed_options_are_dropped() {
    for family in FAMILIES {
        let node = node();
        let (packet, mark) = dispatched(family, &request(family, TCP, 80), 40001);
        let right = dsr::option(&KEY, &packet, &mark);
        let length_at = if family.v6 { 3 } else { 1 };
        for (count, length) in (1..).zip([0, 1, 9, 255]) {
            let mut option = right.clone();
            option[length_at] = length;
            let frame = dsr::with_option(&packet, &option);
            assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_DROP, "{option:02x?}");
            assert_eq!(node.counted(Outcome::DropDsrMalformed), count, "{:?}", node.outcomes());
        }
    }
}

#[test]
fn others_options_and_others_packets_are_left_alone() {
    let node = node();
    let (packet, mark) = dispatched(V4, &request(V4, TCP, 80), 40001);
    // Padding only: delivered as it is.
    let frame = dsr::with_option(&packet, &[1, 1, 1, 0]);
    assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_REDIRECT);
    // To another node's pod: travels with its option.
    let away = Packet { dst: V4.at(V4.remote, 8080).parse().unwrap(), ..packet };
    let frame = dsr::with_option(&away, &dsr::option(&KEY, &away, &mark));
    let (action, out) = node.raw("from_netdev", node.uplink, &frame);
    assert_eq!((action, out), (TC_NEXT, frame));
    assert_eq!(flows(&node), (0, 0));
}

#[test]
fn a_connection_is_not_taken_over_through_another_service() {
    for family in FAMILIES {
        let node = node();
        let one = request(family, TCP, 80);
        let (syn, mark) = dispatched(family, &one, 40001);
        deliver(&node, &syn, &mark);
        node.leave_ok(&syn.answer(SYN | ACK));
        let (again, other) = dispatched(family, &request(family, TCP, 81), 40001);
        let frame = dsr::with_option(&again, &dsr::option(&KEY, &again, &other));
        assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropDsrConflict), 1);
        let answer = node.leave_ok(&syn.answer(ACK));
        assert_eq!(answer.src, one.dst);
    }
}

#[test]
fn a_pods_icmp_error_quotes_what_the_client_sent() {
    for family in FAMILIES {
        let node = node();
        let request = request(family, UDP, 80);
        let (packet, mark) = dispatched(family, &request, 50001);
        let delivered = deliver(&node, &packet, &mark);
        let (kind, code) = if family.v6 { (1, 4) } else { (3, 3) };
        let frame = IcmpError::frame(family.pod, &delivered, kind, code);
        let (action, out) = node.raw("from_container", node.pod, &frame);
        assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
        let error = IcmpError::parse(&out);
        assert_eq!((error.src, error.dst), (request.dst.ip(), request.src.ip()));
        assert_eq!(error.quoted, (request.src, request.dst));
    }
}
