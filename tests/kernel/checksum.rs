// SPDX-License-Identifier: Apache-2.0
//! Checksums of every kind that an skb can come with. Those that a device is to finish
//! (`CHECKSUM_PARTIAL`) travel in the tests on wires.

use culvert::abi::DsrDispatch;

use super::dsr::{request, serve};
use super::dsr_ipip::{encapsulated, lb, node as dispatching};
use super::host::{NODE_PORT, node_port};
use crate::support::dsr::{self, KEY, Mark};
use crate::support::node::{FAMILIES, Family, Node, TC_REDIRECT};
use crate::support::objects::{Frontend, SCTP, TCP, UDP};
use crate::support::packet::icmp::{Echo, IcmpError};
use crate::support::packet::{ACK, Packet, SYN, finish, pseudo, sctp, tcp, udp};

const PROTOS: [u8; 3] = [TCP, UDP, SCTP];

fn packet(proto: u8, src: &str, dst: &str, flags: u8) -> Packet {
    match proto {
        TCP => tcp(src, dst, flags),
        UDP => udp(src, dst),
        _ => sctp(src, dst),
    }
}

#[track_caller]
fn from_wire(node: &Node, frame: &[u8]) -> Vec<u8> {
    let (action, frame) = node.summed("from_netdev", node.uplink, frame);
    assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
    frame
}

#[track_caller]
fn from_pod(node: &Node, frame: &[u8]) -> Vec<u8> {
    let (action, frame) = node.summed("from_container", node.pod, frame);
    assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
    frame
}

/// First packets, answers, and what comes later, each with a sum that must stay right.
fn converse(node: &Node, request: &Packet, backend_is_here: bool) {
    for flags in [SYN, ACK, ACK] {
        let request = Packet { flags, ..request.clone() };
        let sent = Packet::parse(&from_wire(node, &request.bytes()));
        let answer = Packet {
            dmac: request.dmac,
            ..sent.answer(if flags == SYN { SYN | ACK } else { ACK })
        };
        let back = if backend_is_here { from_pod } else { from_wire };
        let back = Packet::parse(&back(node, &answer.bytes()));
        assert_eq!((back.src, back.dst), (request.dst, request.src));
    }
}

#[test]
fn a_complete_sum_stays_right_through_a_node_port() {
    for family in FAMILIES {
        for proto in PROTOS {
            for (backend, here) in [(family.remote, false), (family.pod, true)] {
                let node = Node::new();
                let _service =
                    node.objects.serve(node_port(family, proto), &[&family.at(backend, 8080)]);
                let front = family.at(family.node, NODE_PORT);
                let request = packet(proto, &family.at(family.client, 40001), &front, SYN);
                converse(&node, &request, here);
            }
        }
    }
}

#[test]
fn a_complete_sum_stays_right_from_a_pod_to_a_service_and_back() {
    for family in FAMILIES {
        for proto in PROTOS {
            let node = Node::new();
            let vip = family.at(family.vip, 80);
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(Frontend::cluster_ip(&vip, proto), &[&backend]);
            for flags in [SYN, ACK, ACK] {
                let request = packet(proto, &family.at(family.pod, 40001), &vip, flags);
                let sent = Packet::parse(&from_pod(&node, &request.bytes()));
                let answer = Packet { dmac: request.dmac, ..sent.answer(ACK) };
                let back = Packet::parse(&from_wire(&node, &answer.bytes()));
                assert_eq!((back.src, back.dst), (request.dst, request.src));
            }
        }
    }
}

/// RFC 768; over IPv6 tunnels alone may do so (RFC 6935), and who sends such datagrams gets them through.
#[test]
fn a_datagram_without_a_checksum_leaves_a_complete_sum_right() {
    for family in FAMILIES {
        for backend in [family.remote, family.pod] {
            let node = Node::new();
            let _service = node.objects.serve(node_port(family, UDP), &[&family.at(backend, 8080)]);
            let front = family.at(family.node, NODE_PORT);
            let mut frame = udp(&family.at(family.client, 40001), &front).bytes();
            let check = check_offset(family, UDP);
            frame[check..check + 2].fill(0);
            for _ in 0..2 {
                let sent = from_wire(&node, &frame);
                assert_eq!(sent[check..check + 2], [0, 0], "it was given one");
            }
        }
    }
}

/// Where the L4 checksum lies in a frame without options.
fn check_offset(family: Family, proto: u8) -> usize {
    14 + if family.v6 { 40 } else { 20 } + if proto == TCP { 16 } else { 6 }
}

/// What a device is to finish holds the pseudo header's sum. A checksum that happens to have that value
/// is as good as any other.
#[test]
fn a_checksum_that_looks_unfinished_is_corrected_all_the_same() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let _service =
                node.objects.serve(node_port(family, proto), &[&family.at(family.remote, 8080)]);
            let front = family.at(family.node, NODE_PORT);
            let request = packet(proto, &family.at(family.client, 40001), &front, SYN);
            let looks = looks_unfinished(family, &request);
            for _ in 0..2 {
                for sent in [node.wire_ok(&looks), Packet::parse(&from_wire(&node, &looks.bytes()))]
                {
                    assert_eq!(sent.payload, looks.payload);
                }
            }
        }
    }
}

/// `packet` with such a payload that its checksum is the sum of its pseudo header.
fn looks_unfinished(family: Family, packet: &Packet) -> Packet {
    let check = check_offset(family, packet.proto);
    let l4 = check - if packet.proto == TCP { 16 } else { 6 };
    for word in 0..=u16::MAX {
        let mut packet = packet.clone();
        packet.payload[..2].copy_from_slice(&word.to_be_bytes());
        let frame = packet.bytes();
        let (src, dst) = (packet.src.ip(), packet.dst.ip());
        // Not complemented: RFC 9293 section 3.1, RFC 8200 section 8.1.
        let pseudo = !finish(pseudo(src, dst, packet.proto, frame.len() - l4));
        if frame[check..check + 2] == pseudo.to_be_bytes() {
            return packet;
        }
    }
    panic!("one word of the payload takes the checksum to every value");
}

#[test]
fn a_complete_sum_stays_right_while_an_option_is_put_in_and_taken_out() {
    for family in FAMILIES {
        for proto in PROTOS {
            let node = dispatching(DsrDispatch::Option);
            let vip = family.at(family.vip, 80);
            let _service = serve(&node, &vip, proto, &[&family.at(family.remote, 8080)]);
            for flags in [SYN, ACK] {
                let request = Packet { flags, ..request(family, proto, 80) };
                let (sent, _) = dsr::parse(&KEY, &from_wire(&node, &request.bytes()));
                assert_eq!(sent.payload, request.payload);
            }
            let to_pod =
                packet(proto, &family.at(family.client, 40001), &family.at(family.pod, 8080), SYN);
            let mark = Mark { service: vip.parse().unwrap(), client_port: Some(40001) };
            let frame = dsr::with_option(&to_pod, &dsr::option(&KEY, &to_pod, &mark));
            let got = Packet::parse(&from_wire(&node, &frame));
            assert_eq!((got.src, got.dst, &got.payload), (to_pod.src, to_pod.dst, &to_pod.payload));
            let back = Packet::parse(&from_pod(&node, &got.answer(SYN | ACK).bytes()));
            assert_eq!((back.src, back.dst), (mark.service, to_pod.src));
        }
    }
}

#[test]
fn a_complete_sum_stays_right_while_a_packet_is_wrapped_and_unwrapped() {
    for family in FAMILIES {
        for proto in PROTOS {
            let node = dispatching(DsrDispatch::Ipip);
            let (far, here) = (family.at(family.vip, 80), family.at(family.vip, 81));
            let _far = serve(&node, &far, proto, &[&family.at(family.remote, 8080)]);
            let _here = serve(&node, &here, proto, &[&family.at(family.pod, 8080)]);
            from_wire(&node, &request(family, proto, 80).bytes());
            let inner = request(family, proto, 81);
            let got = Packet::parse(&from_wire(&node, &encapsulated(family, lb(family), &inner)));
            assert_eq!((got.src, &got.payload), (inner.src, &inner.payload));
        }
    }
}

#[test]
fn a_complete_sum_stays_right_in_what_icmp_says() {
    for family in FAMILIES {
        let node = Node::new();
        let vip = family.at(family.vip, 80);
        let _service =
            node.objects.serve(Frontend::cluster_ip(&vip, UDP), &[&family.at(family.remote, 8080)]);
        let request = udp(&family.at(family.pod, 40001), &vip);
        let sent = Packet::parse(&from_pod(&node, &request.bytes()));
        let (kind, code) = if family.v6 { (1, 4) } else { (3, 3) };
        let error = IcmpError::frame(family.remote, &sent, kind, code);
        let told = IcmpError::parse(&from_wire(&node, &error));
        assert_eq!(told.quoted, (request.src, request.dst));

        let echo = Echo::request(family.pod, family.vip);
        Echo::parse(&from_pod(&node, &echo.bytes()));
    }
}
