// SPDX-License-Identifier: Apache-2.0
//! Direct server return by Geneve, one packet at a time. What the device makes of a packet shows on
//! wires alone (`dsr_wire`).

use std::net::IpAddr;

use culvert::abi::{DsrDispatch, NodeKey, Outcome};
use ipnet::IpNet;

use super::dsr::{request, serve};
use super::dsr_ipip;
use super::host::flows;
use crate::support::dsr;
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};

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
