// SPDX-License-Identifier: Apache-2.0
//! Direct server return by option: one client port that reaches one backend through two LB nodes,
//! which do not know of each other.

use std::time::{Duration, Instant};

use super::dsr::{marked, node, request, serve};
use super::dsr_end::dispatched;
use super::host::flows;
use crate::support::dsr::{self, KEY, Mark};
use crate::support::node::{FAMILIES, Node, TC_REDIRECT, V4, ip};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, RST, SYN};

/// What the pod gets of `packet` with `mark`.
#[track_caller]
fn delivered(node: &Node, packet: &Packet, mark: &Mark) -> Packet {
    let frame = dsr::with_option(packet, &dsr::option(&KEY, packet, mark));
    let (action, out) = node.raw("from_netdev", node.uplink, &frame);
    assert_eq!(action, TC_REDIRECT, "{packet:?}: {:?}", node.outcomes());
    let got = Packet::parse(&out);
    assert_eq!((got.src.ip(), got.dst), (packet.src.ip(), packet.dst));
    assert_eq!((&got.payload, got.ttl), (&packet.payload, packet.ttl - 1));
    got
}

#[test]
fn datagrams_of_two_services_reach_the_backend_from_two_ports() {
    for family in FAMILIES {
        for proto in [UDP, SCTP] {
            let node = node();
            let requests = [80, 81].map(|port| request(family, proto, port));
            let dispatched = requests.clone().map(|request| dispatched(family, &request, 40001));
            let ports: Vec<u16> = (0..2)
                .flat_map(|_| dispatched.iter().zip(&requests))
                .map(|((packet, mark), request)| {
                    let got = delivered(&node, packet, mark);
                    let answer = node.leave_ok(&got.answer(0));
                    assert_eq!((answer.src, answer.dst), (request.dst, request.src));
                    got.src.port()
                })
                .collect();
            assert_eq!(ports[0], 40001, "the first one keeps its own");
            assert_ne!(ports[0], ports[1]);
            assert_eq!(ports[..2], ports[2..]);
        }
    }
}

#[test]
fn every_datagram_carries_the_option() {
    for family in FAMILIES {
        for proto in [UDP, SCTP] {
            let node = node();
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            // Those of the first tick do in any case; in a later one the flow is confirmed.
            let until = Instant::now() + Duration::from_secs(20);
            while flows(&node) != (2, 0) {
                marked(&node, &request(family, proto, 80));
                assert!(Instant::now() < until, "never confirmed");
            }
            for _ in 0..3 {
                marked(&node, &request(family, proto, 80));
            }
        }
    }
}

/// Sends the SYN again until it comes from another port, as when nobody answers.
fn again(node: &Node, syn: &Packet) -> (Packet, Mark) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (sent, mark) = marked(node, syn);
        if sent.src != syn.src {
            return (sent, mark);
        }
        assert!(Instant::now() < until, "always from the same port");
    }
}

#[test]
fn a_syn_that_nobody_answers_comes_again_from_another_port() {
    for family in FAMILIES {
        let node = node();
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let syn = request(family, TCP, 80);
        assert_eq!(marked(&node, &syn).0.src, syn.src);
        let (sent, mark) = again(&node, &syn);
        assert_eq!((sent.src.ip(), sent.dst), (syn.src.ip(), backend.parse().unwrap()));
        assert_eq!(mark, Mark { service: syn.dst, client_port: Some(40001) });
        // What was answered stays.
        let ack = Packet { flags: ACK, ..syn };
        assert_eq!(marked(&node, &ack).0.src, sent.src);
        assert_eq!(node.wire_plain(&ack).src, sent.src);
    }
}

#[test]
fn a_syn_without_room_for_the_option_keeps_its_port() {
    let node = node();
    let backend = V4.at(V4.remote, 8080);
    let _service = serve(&node, &V4.at(V4.vip, 80), TCP, &[&backend]);
    let syn = request(V4, TCP, 80);
    marked(&node, &syn);
    // In a later tick it would come from another port.
    let table = &node.objects.maps().flows_new;
    let entries = table.entries().unwrap();
    let (key, mut flow) = entries.into_iter().find(|(key, _)| key.daddr == ip(V4.vip)).unwrap();
    flow.created = flow.created.wrapping_sub(1);
    table.set(&key, &flow).unwrap();
    let frame = dsr::insert(&syn.bytes(), &[1; 28]);
    let (action, sent) = node.raw("from_netdev", node.uplink, &frame);
    assert_eq!(action, TC_REDIRECT);
    assert_eq!(sent[14 + 48..][..2], syn.src.port().to_be_bytes());
}

#[test]
fn a_connection_that_comes_from_another_port_now_goes_on() {
    for family in FAMILIES {
        for flags in [SYN, ACK] {
            let node = node();
            let request = request(family, TCP, 80);
            let (first, mark) = dispatched(family, &request, 40001);
            delivered(&node, &first, &mark);
            let (other, _) = dispatched(family, &Packet { flags, ..request.clone() }, 50001);
            for _ in 0..2 {
                assert_eq!(delivered(&node, &other, &mark).src, first.src);
            }
            // Those behind it say nothing of their own.
            let got = node.wire_ok(&Packet { flags: ACK, ..other.clone() });
            assert_eq!((got.src, got.dst), (first.src, first.dst));
            let answer = node.leave_ok(&got.answer(SYN | ACK));
            assert_eq!((answer.src, answer.dst), (request.dst, request.src));
        }
    }
}

#[test]
fn a_port_that_another_connection_had_before_is_free_again() {
    for family in FAMILIES {
        let node = node();
        let one = request(family, TCP, 80);
        let (first, mark) = dispatched(family, &one, 40001);
        delivered(&node, &first, &mark);
        let (other, _) = dispatched(family, &one, 50001);
        delivered(&node, &other, &mark);
        let two = request(family, TCP, 81);
        let (second, mark) = dispatched(family, &two, 50001);
        let got = delivered(&node, &second, &mark);
        assert_eq!(got.src, second.src);
        let answer = node.leave_ok(&got.answer(SYN | ACK));
        assert_eq!((answer.src, answer.dst), (two.dst, two.src));
    }
}

#[test]
fn a_connection_that_was_evicted_is_not_taken_for_what_has_its_tuple_now() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let one = request(family, proto, 81);
            let (packet, of_one) = dispatched(family, &one, 40001);
            delivered(&node, &packet, &of_one);
            let src = family.at(family.client, 40002).parse().unwrap();
            let two = Packet { src, ..request(family, proto, 80) };
            let (second, of_two) = dispatched(family, &two, 50001);
            delivered(&node, &second, &of_two);

            let table = &node.objects.maps().flows_new;
            let entries = table.entries().unwrap();
            let evicted = entries.iter().find(|(key, _)| key.sport.get() == 50001).unwrap();
            table.remove(&evicted.0).unwrap();
            // Of a connection, as from an LB node that met it in its middle.
            let flags = if proto == TCP { ACK } else { 0 };
            let (again, _) = dispatched(family, &Packet { flags, ..one }, 50001);
            assert_eq!(delivered(&node, &again, &of_one).src, packet.src);

            let got = delivered(&node, &second, &of_two);
            assert_eq!(got.src, second.src);
            let answer = node.leave_ok(&got.answer(SYN | ACK));
            assert_eq!((answer.src, answer.dst), (two.dst, two.src));
        }
    }
}

/// Another LB node uses the client's own port, which is another connection's here, or a third one.
#[test]
fn what_has_another_port_is_found_by_what_the_client_sent() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let later = if proto == TCP { ACK } else { 0 };
            let requests = [80, 81].map(|port| request(family, proto, port));
            let [(first, of_one), (second, of_two)] =
                [(0, 40001), (1, 50001)].map(|(n, port)| dispatched(family, &requests[n], port));
            delivered(&node, &first, &of_one);
            delivered(&node, &second, &of_two);
            for packet in [&first, &second] {
                node.leave_ok(&packet.answer(SYN | ACK));
                node.wire_ok(&Packet { flags: later, ..packet.clone() });
            }
            // As once a tick; half-open flows may be evicted then.
            let confirmed = Packet { flags: later, ..second.clone() };
            delivered(&node, &confirmed, &of_two);
            let half_open = &node.objects.maps().flows_new;
            for (key, _) in half_open.entries().unwrap() {
                half_open.remove(&key).unwrap();
            }
            for port in [40001, 50002, 40001, 50001] {
                let mut moved = confirmed.clone();
                moved.src.set_port(port);
                let got = delivered(&node, &moved, &of_two);
                assert_eq!(got.src, second.src, "from {port}");
                let answer = node.leave_ok(&got.answer(later));
                assert_eq!((answer.src, answer.dst), (requests[1].dst, requests[1].src));
            }
            let got = delivered(&node, &Packet { flags: later, ..first.clone() }, &of_one);
            assert_eq!(got.src, first.src);
        }
    }
}

#[test]
fn what_led_to_a_connection_that_is_over_leads_nowhere() {
    for family in FAMILIES {
        let node = node();
        let request = request(family, TCP, 80);
        let (syn, mark) = dispatched(family, &request, 50001);
        delivered(&node, &syn, &mark);
        node.leave_ok(&syn.answer(RST));
        let (again, _) = dispatched(family, &request, 40001);
        assert_eq!(delivered(&node, &again, &mark).src, again.src);
        let (third, _) = dispatched(family, &Packet { flags: ACK, ..request }, 50002);
        assert_eq!(delivered(&node, &third, &mark).src, again.src);
    }
}

#[test]
fn what_led_to_a_port_that_is_another_connections_now_leads_there_no_more() {
    for family in FAMILIES {
        let node = node();
        let one = request(family, TCP, 80);
        let (first, of_one) = dispatched(family, &one, 40001);
        delivered(&node, &first, &of_one);
        let (moved, _) = dispatched(family, &Packet { flags: ACK, ..one }, 50001);
        assert_eq!(delivered(&node, &moved, &of_one).src, first.src);
        node.leave_ok(&first.answer(RST));

        let src = family.at(family.client, 40002).parse().unwrap();
        let two = Packet { src, ..request(family, TCP, 81) };
        let (second, of_two) = dispatched(family, &two, 40001);
        assert_eq!(delivered(&node, &second, &of_two).src, first.src);
        // The pod knows nothing of it, and says so.
        assert_eq!(node.wire_ok(&moved).src, moved.src);
        let answer = node.leave_ok(&second.answer(SYN | ACK));
        assert_eq!((answer.src, answer.dst), (two.dst, two.src));
    }
}

impl Node {
    /// Sends `packet` until it leaves without an option: the first of a tick has one.
    fn wire_plain(&self, packet: &Packet) -> Packet {
        let frames = (0..3).map(|_| self.wire(packet).1);
        let plain = frames.into_iter().find(|frame| dsr::take(frame).is_none());
        Packet::parse(&plain.unwrap())
    }
}
