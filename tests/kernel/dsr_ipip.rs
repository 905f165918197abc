// SPDX-License-Identifier: Apache-2.0
//! Direct server return by IPIP and IP6IP6, one packet at a time.

use std::net::IpAddr;

use culvert::abi::{DsrDispatch, NODE_ADDRESS, NodeAddress, NodeKey, Outcome, Zone};
use ipnet::IpNet;

use super::dsr::{request, serve};
use super::host::{NODE_PORT, flows, node_port};
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Family, Node, POD_MAC, TC_DROP, TC_REDIRECT, V4, V6, ip};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, RST, SYN};

/// Another node.
pub(super) const fn lb(family: Family) -> &'static str {
    if family.v6 { "fd09::2" } else { "10.9.0.2" }
}

pub(super) fn node(dispatch: DsrDispatch) -> Node {
    node_with(dispatch, |_| {})
}

pub(super) fn node_with(
    dispatch: DsrDispatch,
    change: impl FnOnce(&mut culvert::abi::Config) + Send,
) -> Node {
    let node = Node::with(|config| {
        config.dsr_dispatch = dispatch as u8;
        change(config);
    });
    node.objects.maps().set_dsr_keys([KEY, [0; 16]]).unwrap();
    node.objects.maps().set_dsr_sources([ip(V4.node), ip(V6.node)]).unwrap();
    for family in FAMILIES {
        let prefix = IpNet::from(lb(family).parse::<IpAddr>().unwrap());
        let value = NodeAddress { addr: ip(lb(family)), flags: NODE_ADDRESS, pad: 0 };
        node.objects.maps().nodes.set(&NodeKey::new(prefix), &value).unwrap();
        let pod = IpNet::from(family.remote.parse::<IpAddr>().unwrap());
        let value = NodeAddress { flags: 0, ..value };
        node.objects.maps().nodes.set(&NodeKey::new(pod), &value).unwrap();
    }
    // Any device: nothing is sent.
    node.objects.maps().set_geneve(node.other_pod).unwrap();
    node
}

pub(super) fn encapsulated(family: Family, from: &str, inner: &Packet) -> Vec<u8> {
    let (from, to) = (from.parse().unwrap(), family.pod.parse().unwrap());
    dsr::encapsulate(&inner.bytes(), from, to, 8080)
}

#[test]
fn the_packet_travels_as_it_came() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node(DsrDispatch::Ipip);
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            let request = request(family, proto, 80);
            let source = family.node.parse().unwrap();
            let to = family.remote.parse().unwrap();
            // Every packet, not the first ones alone.
            for flags in [SYN, ACK, ACK] {
                let flags = if proto == TCP { flags } else { 0 };
                let packet = Packet { flags, ..request.clone() };
                let (action, frame) = node.wire(&packet);
                assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
                let inner = packet.bytes();
                assert_eq!(frame[14..], dsr::encapsulate(&inner, source, to, 8080)[14..]);
            }
        }
    }
}

#[test]
fn the_backends_node_translates_to_the_backends_port_and_answers_itself() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            for flags in [SYN, ACK] {
                let node = node(DsrDispatch::Ipip);
                let backend = family.at(family.pod, 8080);
                let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
                let flags = if proto == TCP { flags } else { 0 };
                let request = Packet { flags, ..request(family, proto, 80) };
                for _ in 0..2 {
                    let frame = encapsulated(family, lb(family), &request);
                    let (action, out) = node.raw("from_netdev", node.uplink, &frame);
                    assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
                    let got = Packet::parse(&out);
                    assert_eq!((got.src, got.dst), (request.src, backend.parse().unwrap()));
                    assert_eq!((got.dmac, &got.payload), (POD_MAC, &request.payload));
                    let answer = node.leave_ok(&got.answer(flags | ACK));
                    assert_eq!((answer.src, answer.dst), (request.dst, request.src));
                }
            }
        }
    }
}

/// Also those of a connection that another LB node has sent until now.
#[test]
fn what_has_options_of_its_own_arrives_with_them() {
    let family = V4;
    for proto in [TCP, UDP, SCTP] {
        for flags in [SYN, ACK] {
            let flags = if proto == TCP { flags } else { 0 };
            let request = Packet { flags, ..request(family, proto, 80) };
            // Router alert (RFC 2113), and as many as there may be.
            for options in [vec![0x94, 4, 0, 0], vec![1; 40]] {
                let inner = dsr::insert(&request.bytes(), &options);
                let lb_node = node(DsrDispatch::Ipip);
                let remote = family.at(family.remote, 8080);
                let _there = serve(&lb_node, &family.at(family.vip, 80), proto, &[&remote]);
                let (action, sent) = lb_node.raw("from_netdev", lb_node.uplink, &inner);
                assert_eq!(action, TC_REDIRECT, "{:?}", lb_node.outcomes());
                let (from, to) = (family.node.parse().unwrap(), family.remote.parse().unwrap());
                assert_eq!(sent[14..], dsr::encapsulate(&inner, from, to, 8080)[14..]);

                let end = node(DsrDispatch::Ipip);
                let backend = family.at(family.pod, 8080);
                let _here = serve(&end, &family.at(family.vip, 80), proto, &[&backend]);
                let (from, to) = (lb(family).parse().unwrap(), family.pod.parse().unwrap());
                let frame = dsr::encapsulate(&inner, from, to, 8080);
                let (action, out) = end.raw("from_netdev", end.uplink, &frame);
                assert_eq!(action, TC_REDIRECT, "{:?}", end.outcomes());
                assert_eq!(out[34..][..options.len()], options);
                let mut plain = out.clone();
                plain.drain(34..34 + options.len());
                plain[14] = 0x45;
                let length = (plain.len() - 14) as u16;
                plain[16..18].copy_from_slice(&length.to_be_bytes());
                dsr::write_header_checksum(&mut plain);
                let got = Packet::parse(&plain);
                assert_eq!((got.src, got.dst), (request.src, backend.parse().unwrap()));
                assert_eq!((got.dmac, &got.payload), (POD_MAC, &request.payload));
                let answer = end.leave_ok(&got.answer(flags | ACK));
                assert_eq!((answer.src, answer.dst), (request.dst, request.src));
            }
        }
    }
}

#[test]
fn two_services_and_one_client_port_are_kept_apart_by_the_backends_node() {
    for family in FAMILIES {
        let node = node(DsrDispatch::Ipip);
        let backend = family.at(family.pod, 8080);
        let _one = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let _two = serve(&node, &family.at(family.vip, 81), TCP, &[&backend]);
        let got = [80, 81].map(|port| {
            let request = request(family, TCP, port);
            let frame = encapsulated(family, lb(family), &request);
            let got = Packet::parse(&node.raw("from_netdev", node.uplink, &frame).1);
            let answer = node.leave_ok(&got.answer(SYN | ACK));
            assert_eq!((answer.src, answer.dst), (request.dst, request.src));
            got
        });
        assert_ne!(got[0].src, got[1].src);
    }
}

#[test]
fn a_port_that_is_used_again_goes_where_the_lb_node_says_now() {
    for family in FAMILIES {
        let node = node(DsrDispatch::Ipip);
        let backends = [family.pod, family.other_pod];
        let names = backends.map(|host| family.at(host, 8080));
        let names = names.each_ref().map(String::as_str);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &names);
        let from = lb(family).parse().unwrap();
        for backend in [0, 1, 0, 1].map(|which| backends[which]) {
            for flags in [SYN, RST] {
                let inner = Packet { flags, ..request(family, TCP, 80) }.bytes();
                let frame = dsr::encapsulate(&inner, from, backend.parse().unwrap(), 8080);
                let (action, out) = node.raw("from_netdev", node.uplink, &frame);
                assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
                assert_eq!(Packet::parse(&out).dst, family.at(backend, 8080).parse().unwrap());
            }
        }
    }
}

#[test]
fn what_lost_its_answers_to_another_service_goes_nowhere_else() {
    for family in FAMILIES {
        let node = node(DsrDispatch::Ipip);
        let pod = family.at(family.pod, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&pod]);
        let request = request(family, UDP, 80);
        let frame = encapsulated(family, lb(family), &request);
        assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_REDIRECT);

        // A tick later its answers' entry is another flow's.
        let table = &node.objects.maps().flows_new;
        for (key, mut flow) in table.entries().unwrap() {
            if key.zone == Zone::Overlay as u8 {
                flow.last_seen = flow.last_seen.wrapping_sub(1);
            } else {
                flow.saddr = ip(family.client);
            }
            table.set(&key, &flow).unwrap();
        }

        // It must not be balanced here, as a packet of nobody's choice.
        assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropDsrConflict), 1, "{:?}", node.outcomes());
    }
}

#[test]
fn a_nodes_own_nodeport_is_answered_from_that_nodes_address() {
    for family in FAMILIES {
        let node = node(DsrDispatch::Ipip);
        let _service = node.objects.serve(node_port(family, TCP), &[&family.at(family.pod, 8080)]);
        let mut request = request(family, TCP, 80);
        request.dst = family.at(lb(family), NODE_PORT).parse().unwrap();
        let frame = encapsulated(family, lb(family), &request);
        let (action, out) = node.raw("from_netdev", node.uplink, &frame);
        assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
        let answer = node.leave_ok(&Packet::parse(&out).answer(SYN | ACK));
        assert_eq!((answer.src, answer.dst), (request.dst, request.src));
    }
}

#[test]
fn only_who_sends_such_packets_or_takes_plain_ones_takes_them() {
    for family in FAMILIES {
        for dispatch in [DsrDispatch::Option, DsrDispatch::Geneve] {
            for plain in [false, true] {
                let node = node_with(dispatch, |config| config.dsr_plain_in = plain.into());
                let backend = family.at(family.pod, 8080);
                let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
                let frame = encapsulated(family, lb(family), &request(family, TCP, 80));
                let (action, out) = node.raw("from_netdev", node.uplink, &frame);
                assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
                if plain {
                    assert_eq!(Packet::parse(&out).dst, backend.parse().unwrap());
                } else {
                    let inner = 14 + if family.v6 { 40 } else { 20 };
                    assert_eq!(out[inner..], frame[inner..], "delivered as it is");
                    assert_eq!(flows(&node), (0, 0));
                }
            }
        }
    }
}

#[test]
fn strangers_tunnels_are_left_alone_and_unknown_services_dropped() {
    for family in FAMILIES {
        let node = node(DsrDispatch::Ipip);
        let request = request(family, TCP, 80);
        let frame = encapsulated(family, lb(family), &request);
        assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropDsrService), 1);

        let _service =
            serve(&node, &family.at(family.vip, 80), TCP, &[&family.at(family.pod, 8080)]);
        let frame = encapsulated(family, family.client, &request);
        let (action, out) = node.raw("from_netdev", node.uplink, &frame);
        assert_eq!((action, out.len()), (TC_REDIRECT, frame.len()), "delivered as it is");
        assert_eq!(flows(&node), (0, 0));
    }
}
