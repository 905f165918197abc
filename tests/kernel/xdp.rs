// SPDX-License-Identifier: Apache-2.0
//! bpf_xdp, one packet at a time: what the driver hook finishes.

use culvert::abi::{SERVICE_AFFINITY, XdpDevice};

use super::host::{NODE_PORT, flows, handshake, node_port, request};
use crate::support::node::{FAMILIES, Family, Node, ROUTER_MAC, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};

pub(super) const XDP_PASS: u32 = 2;
pub(super) const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
const SCTP: u8 = 132;

/// What the node's uplink sends from and listens to.
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Runs the driver hook on a frame that comes in on the uplink.
pub(super) fn driver(node: &Node, frame: &[u8]) -> (u32, Vec<u8>) {
    node.ns.run(|| node.xdp_inside(node.uplink, frame))
}

/// Lets a packet of an established flow in. The first of a tick goes up; one of three does not.
#[track_caller]
pub(super) fn forwarded(node: &Node, frame: &[u8]) -> Vec<u8> {
    for _ in 0..3 {
        let (action, after) = driver(node, frame);
        if action == XDP_TX {
            return after;
        }
        assert_eq!((action, after.as_slice()), (XDP_PASS, frame));
        assert_eq!(node.raw("from_netdev", node.uplink, frame).0, TC_REDIRECT);
    }
    panic!("always passed up: {:?}", node.outcomes());
}

/// A NodePort of one remote backend, and a flow of it that is established. Returns a packet of the
/// flow as the client sends it, and as the backend gets it.
pub(super) fn established(node: &Node, family: Family, proto: u8) -> (Packet, Packet) {
    let backend = family.at(family.remote, 8080);
    let _service = node.objects.serve(node_port(family, proto), &[&backend]);
    let request = request(family, proto);
    let first = handshake(node, &request);
    let flags = if proto == TCP { ACK } else { 0 };
    (Packet { flags, ..request }, Packet { flags, dmac: ROUTER_MAC, smac: NODE_MAC, ..first })
}

/// The backend's answer as it arrives.
pub(super) fn answer(sent: &Packet, flags: u8) -> Packet {
    Packet { dmac: NODE_MAC, smac: ROUTER_MAC, ..sent.answer(flags) }
}

#[test]
fn an_established_flow_is_finished_both_ways() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let (request, sent) = established(&node, family, proto);
            assert_eq!(Packet::parse(&forwarded(&node, &request.bytes())), sent);

            let answer = Packet { ttl: 63, ..answer(&sent, request.flags) };
            let reply = Packet::parse(&forwarded(&node, &answer.bytes()));
            let expected = request.answer(request.flags);
            let expected = Packet { dmac: ROUTER_MAC, smac: NODE_MAC, ttl: 62, ..expected };
            assert_eq!(reply, expected);
            assert!(node.outcomes().contains(&("xdp_entry", "forwarded", 2)));
        }
    }
}

#[test]
fn the_first_packet_opens_the_flow_that_its_answer_needs() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(node_port(family, proto), &[&backend]);
            let request = request(family, proto);

            let (action, frame) = driver(&node, &request.bytes());
            assert_eq!(action, XDP_TX, "{:?}", node.outcomes());
            let sent = Packet::parse(&frame);
            assert_eq!(sent.dst, backend.parse().unwrap());
            assert_eq!(sent.src, family.at(family.node, 40001).parse().unwrap());
            assert_eq!((sent.dmac, sent.smac), (ROUTER_MAC, NODE_MAC));
            assert_eq!((sent.ttl, &sent.payload), (request.ttl - 1, &request.payload));
            assert_eq!(flows(&node), (0, 2));

            let reply = node.wire_ok(&answer(&sent, SYN | ACK));
            assert_eq!((reply.src, reply.dst), (request.dst, request.src));
            if proto == TCP {
                let again = node.wire_ok(&request);
                assert_eq!((again.src, again.dst), (sent.src, sent.dst), "the SYN again");
            }
        }
    }
}

#[test]
fn one_client_port_to_two_services_is_kept_apart() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 8080);
        let sent = [NODE_PORT, NODE_PORT + 1].map(|port| {
            let frontend = crate::support::objects::Frontend { port, ..node_port(family, TCP) };
            let _service = node.objects.serve(frontend, &[&backend]);
            let mut request = request(family, TCP);
            request.dst.set_port(port);
            let (action, frame) = driver(&node, &request.bytes());
            assert_eq!(action, XDP_TX);
            (request, Packet::parse(&frame))
        });
        assert_ne!(sent[0].1.src, sent[1].1.src);
        for (request, sent) in sent {
            let reply = node.wire_ok(&answer(&sent, SYN | ACK));
            assert_eq!((reply.src, reply.dst), (request.dst, request.src));
        }
    }
}

#[test]
fn datagrams_that_nobody_answers_are_finished_too() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(node_port(family, UDP), &[&backend]);
        let request = request(family, UDP);
        let first = node.wire_ok(&request);
        let again = Packet::parse(&forwarded(&node, &request.bytes()));
        assert_eq!((again.src, again.dst), (first.src, first.dst));
        assert_eq!(flows(&node), (0, 2));
    }
}

#[test]
fn a_datagram_without_a_checksum_stays_without() {
    let family = FAMILIES[0];
    let node = Node::new();
    let (request, _) = established(&node, family, UDP);
    let mut frame = request.bytes();
    frame[40..42].fill(0);
    assert_eq!(forwarded(&node, &frame)[40..42], [0, 0]);
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_written_as_ones() {
    for family in FAMILIES {
        let node = Node::new();
        let (request, sent) = established(&node, family, UDP);
        let at = if family.v6 { 60 } else { 40 };
        // The packets' own code writes ones where the sum is zero (RFC 768).
        let payload = (0..=u16::MAX)
            .map(|word| word.to_be_bytes().to_vec())
            .find(|payload| {
                let packet = Packet { payload: payload.clone(), ..sent.clone() };
                packet.bytes()[at..at + 2] == [0xff, 0xff]
            })
            .unwrap();
        let request = Packet { payload: payload.clone(), ..request };
        let after = forwarded(&node, &request.bytes());
        assert_eq!(after, Packet { payload, ..sent }.bytes());
    }
}

#[test]
fn sctp_keeps_its_ports_and_its_checksum() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, NODE_PORT);
        let _service = node.objects.serve(node_port(family, SCTP), &[&backend]);
        let mut frame = request(family, UDP).bytes();
        let l4 = if family.v6 {
            frame[20] = SCTP;
            54
        } else {
            // The header's checksum makes up for the changed protocol.
            frame[23] = SCTP;
            let sum = u16::from_be_bytes([frame[24], frame[25]]);
            let sum = u32::from(!sum) + u32::from(SCTP - UDP);
            let sum = !((sum & 0xffff) as u16 + (sum >> 16) as u16);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            34
        };
        let (action, after) = driver(&node, &frame);
        assert_eq!(action, XDP_TX, "{:?}", node.outcomes());
        assert_eq!(after[l4..], frame[l4..], "ports, checksum and content");
        let destination = if family.v6 { 38..54 } else { 30..34 };
        let backend: std::net::IpAddr = family.remote.parse().unwrap();
        let octets = match backend {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        assert_eq!(after[destination], octets);
    }
}

#[test]
fn another_device_is_reached_where_its_driver_hook_is_ours() {
    for family in FAMILIES {
        let node = Node::new();
        let (request, sent) = established(&node, family, TCP);
        let from = |mac: [u8; 6]| {
            let frame = Packet { dmac: mac, ..request.clone() }.bytes();
            for _ in 0..3 {
                let (action, after) = node.ns.run(|| node.xdp_inside(node.other_pod, &frame));
                if action != XDP_PASS {
                    return (action, Packet::parse(&after));
                }
                assert_eq!(after, frame);
                node.wire_ok(&request);
            }
            (XDP_PASS, Packet::parse(&frame))
        };
        let (mac, other) = ([2, 0, 0, 0, 7, 7], [2, 0, 0, 0, 7, 8]);
        let devices = &node.objects.maps().xdp_devices;
        assert_eq!(from(mac).0, XDP_PASS, "neither device is known");
        devices.set(&node.other_pod, &XdpDevice { mac, pad: 0 }).unwrap();
        assert_eq!(from(mac).0, XDP_PASS, "the way out is not known");
        devices.set(&node.uplink, &XdpDevice { mac: NODE_MAC, pad: 0 }).unwrap();
        assert_eq!(from(mac), (XDP_REDIRECT, sent));
        assert_eq!(from(other).0, XDP_PASS, "flooded");
    }
}

#[test]
fn backends_here_and_elsewhere_get_equal_shares() {
    const CLIENTS: u16 = 600;
    for family in FAMILIES {
        let node = Node::new();
        let backends = [family.pod, family.remote].map(|backend| family.at(backend, 8080));
        let backends = backends.each_ref().map(String::as_str);
        let _service = node.objects.serve(node_port(family, TCP), &backends);
        let mut elsewhere = 0;
        for port in 0..CLIENTS {
            let mut request = request(family, TCP);
            request.src.set_port(20000 + port);
            let frame = request.bytes();
            let (action, _) = driver(&node, &frame);
            if action == XDP_TX {
                elsewhere += 1;
            } else {
                let (verdict, after) = node.raw("from_netdev", node.uplink, &frame);
                assert_eq!(verdict, TC_REDIRECT);
                // What the driver hook left is for the pod: tc draws the same lot.
                assert_eq!(Packet::parse(&after).dst, backends[0].parse().unwrap());
            }
        }
        // Half of them, give or take six standard deviations.
        assert!((227..=373).contains(&elsewhere), "{elsewhere} of {CLIENTS}");
    }
}

#[test]
fn affinity_holds_across_the_driver_hook_and_tc() {
    for family in FAMILIES {
        let node = Node::new();
        let backends: Vec<_> = (0..8).map(|n| family.at(family.remote, 8080 + n)).collect();
        let backends: Vec<_> = backends.iter().map(String::as_str).collect();
        let service = node.objects.serve(node_port(family, TCP), &backends);
        service.change(|service| {
            service.flags |= SERVICE_AFFINITY;
            service.affinity_timeout = 1000;
        });
        let to: std::collections::BTreeSet<_> = (0..40)
            .map(|port| {
                let mut request = request(family, TCP);
                request.src.set_port(20000 + port);
                if port % 2 == 1 {
                    return node.wire_ok(&request).dst;
                }
                let (action, frame) = driver(&node, &request.bytes());
                assert_eq!(action, XDP_TX);
                Packet::parse(&frame).dst
            })
            .collect();
        assert_eq!(to.len(), 1, "{to:?}");
    }
}
