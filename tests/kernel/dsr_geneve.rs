// SPDX-License-Identifier: Apache-2.0
//! Direct server return by Geneve, one packet at a time. What the device makes of a packet shows on
//! wires alone (`dsr_wire`); what it says of one that it brings is put there.

use std::net::IpAddr;

use culvert::abi::{DsrDispatch, NodeKey, Outcome};
use ipnet::IpNet;

use super::dsr::{request, serve};
use super::dsr_end::dispatched;
use super::dsr_ipip;
use super::host::flows;
use crate::support::dsr::{self, KEY, Mark, tunnel_option};
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};
use crate::support::tunnelled::Tunnelled;

fn node() -> Node {
    dsr_ipip::node(DsrDispatch::Geneve)
}

/// The client's address stays, or it is the node's.
#[track_caller]
fn assert_direct(node: &Node, family: Family, packet: &Packet, direct: bool) -> Packet {
    let sent = node.wire_ok(packet);
    let source = if direct { family.client } else { family.node };
    assert_eq!(sent.src.ip(), source.parse::<IpAddr>().unwrap());
    assert_eq!(sent.dst, family.at(family.remote, 8080).parse().unwrap());
    sent
}

#[test]
fn the_inner_packet_is_the_backends_with_the_clients_address() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            let request = request(family, proto, 80);
            for flags in [SYN, ACK, ACK] {
                let flags = if proto == TCP { flags } else { 0 };
                let packet = Packet { flags, ..request.clone() };
                let sent = assert_direct(&node, family, &packet, true);
                assert_eq!((sent.src, sent.ttl), (packet.src, packet.ttl - 1));
                assert_eq!((sent.flags, &sent.payload), (packet.flags, &packet.payload));
            }
            assert_eq!(node.counted(Outcome::Forwarded), 3);
        }
    }
}

#[test]
fn without_the_device_or_the_backends_node_it_is_snat() {
    for family in FAMILIES {
        let node = node();
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
        let from = |port: u16| Packet {
            src: family.at(family.client, port).parse().unwrap(),
            ..request(family, UDP, 80)
        };
        let maps = node.objects.maps();
        maps.set_geneve(0).unwrap();
        assert_direct(&node, family, &from(1), false);
        maps.set_geneve(node.other_pod).unwrap();
        assert_direct(&node, family, &from(2), true);
        let pod = IpNet::from(family.remote.parse::<IpAddr>().unwrap());
        maps.nodes.remove(&NodeKey::new(pod)).unwrap();
        assert_direct(&node, family, &from(3), false);
        // What was open is not sent to nobody.
        assert_eq!(node.wire(&from(2)).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropNoRoute), 1);
    }
}

#[test]
fn the_syn_announces_segments_that_leave_room() {
    for family in FAMILIES {
        let node = node();
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let frame = dsr::with_mss(&request(family, TCP, 80), 0, 1460);
        let (action, out) = node.raw("from_netdev", node.uplink, &frame);
        assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
        let most = if family.v6 { 1500 - 60 - 102 } else { 1500 - 40 - 90 };
        assert_eq!(dsr::mss(&Packet::parse(&out), 0), most);
    }
}

#[test]
fn what_the_device_brings_without_a_mark_is_dropped() {
    for family in FAMILIES {
        let node = node();
        let mut packet = request(family, UDP, 80);
        packet.dst = family.at(family.pod, 8080).parse().unwrap();
        let (action, _) = node.raw("from_overlay", node.other_pod, &packet.bytes());
        assert_eq!(action, TC_DROP);
        assert_eq!(node.counted(Outcome::DropDsrMalformed), 1);
        assert_eq!(flows(&node), (0, 0));
    }
}

struct Overlay<'a>(&'a Node, Tunnelled);

impl<'a> Overlay<'a> {
    fn of(node: &'a Node) -> Self {
        Self(node, Tunnelled::new(&node.objects.program("from_overlay")))
    }

    fn bring(&self, packet: &Packet, option: &[u8]) -> (u32, Vec<u8>) {
        let run = || self.1.raw_inside(self.0.other_pod, &packet.bytes(), option);
        self.0.ns.run(run)
    }
}

#[test]
fn what_it_brings_with_a_mark_reaches_the_backend_which_answers_itself() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let overlay = Overlay::of(&node);
            let vip = family.at(family.vip, 80);
            let _service = serve(&node, &vip, proto, &[&family.at(family.pod, 8080)]);
            let asked = request(family, proto, 80);
            // SNAT to ports of their own keeps two connections apart on the way: the mark says whose.
            for port in [asked.src.port(), 40077] {
                let (mut packet, mark) = dispatched(family, &asked, port);
                for flags in [SYN, ACK, ACK] {
                    packet.flags = if proto == TCP { flags } else { 0 };
                    let option = tunnel_option(&KEY, &packet, &mark);
                    let (action, out) = overlay.bring(&packet, &option);
                    assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
                    let got = Packet::parse(&out);
                    assert_eq!((got.src, got.dst), (asked.src, packet.dst));
                    assert_eq!((got.ttl, got.flags), (packet.ttl - 1, packet.flags));
                    assert_eq!(got.payload, packet.payload);
                    let answer = node.leave_ok(&got.answer(ACK));
                    assert_eq!((answer.src, answer.dst), (asked.dst, asked.src));
                }
            }
        }
    }
}

#[test]
fn what_it_brings_is_refused_unless_the_mark_is_whole_and_genuine() {
    for family in FAMILIES {
        let node = node();
        let overlay = Overlay::of(&node);
        let vip = family.at(family.vip, 80);
        let _service = serve(&node, &vip, TCP, &[&family.at(family.pod, 8080)]);
        let (packet, mark) = dispatched(family, &request(family, TCP, 80), 40001);
        let right = tunnel_option(&KEY, &packet, &mark);
        let plain = tunnel_option(&KEY, &packet, &Mark { client_port: None, ..mark });
        let refused = |option: &[u8], why| {
            let before = node.counted(why);
            assert_eq!(overlay.bring(&packet, option).0, TC_DROP, "{option:02x?}");
            assert_eq!(node.counted(why), before + 1, "{option:02x?}: {:?}", node.outcomes());
            assert_eq!(flows(&node), (0, 0));
        };
        // No byte of what it says may change, nor may anything be missing or too much.
        for at in 4..right.len() {
            let mut changed = right.clone();
            changed[at] ^= 1;
            refused(&changed, Outcome::DropDsrTag);
        }
        for at in 0..4 {
            let mut changed = right.clone();
            changed[at] ^= 1;
            refused(&changed, Outcome::DropDsrMalformed);
        }
        refused(&tunnel_option(b"nobody gave this", &packet, &mark), Outcome::DropDsrTag);
        refused(&plain, Outcome::DropDsrTag);
        refused(&right[..right.len() - 4], Outcome::DropDsrMalformed);
        refused(&[&right[..], &[0; 4]].concat(), Outcome::DropDsrMalformed);
        assert_eq!(overlay.bring(&packet, &right).0, TC_REDIRECT, "{:?}", node.outcomes());
    }
}
