// SPDX-License-Identifier: Apache-2.0
//! bpf_xdp, one packet at a time: what it must pass up untouched.

use culvert::abi::{Flow, OWNED_NODEPORT, SERVICE_SOURCE_RANGES, TargetStatus, flow_flag};

use super::host::{NODE_PORT, flows, node_port, request};
use super::xdp::{XDP_PASS, answer, driver, established, forwarded};
use crate::support::node::{FAMILIES, Family, Node};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, FIN, Packet, RST, SYN, tcp};

#[track_caller]
fn passes_up(node: &Node, what: &str, frame: &[u8]) {
    let (action, after) = driver(node, frame);
    assert_eq!((action, after.as_slice()), (XDP_PASS, frame), "{what}");
}

/// `frame` with bytes put in, or others in their place.
fn with(frame: &[u8], at: usize, remove: usize, insert: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.splice(at..at + remove, insert.iter().copied());
    frame
}

/// Frames around a packet that the driver hook would finish.
fn odd_frames(family: Family, packet: &Packet) -> Vec<(&'static str, Vec<u8>)> {
    let plain = packet.bytes();
    let flagged = |flags| Packet { flags, ..packet.clone() }.bytes();
    let mut odd = vec![
        ("802.1Q", with(&plain, 12, 0, &[0x81, 0, 0, 100])),
        ("802.1ad", with(&plain, 12, 0, &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 100])),
        ("ARP", with(&plain, 12, 2, &[0x08, 0x06])),
        ("another's frame", with(&plain, 0, 6, &[2, 0, 0, 0, 0x77, 0x77])),
        ("everybody's frame", with(&plain, 0, 6, &[0xff; 6])),
        ("TTL", packet.clone().ttl(1).bytes()),
        ("no hop left", packet.clone().ttl(0).bytes()),
        ("too big", Packet { payload: vec![7; 1500], ..packet.clone() }.bytes()),
        ("ICMP error", IcmpError::frame(family.remote, packet, 3, 3)),
        ("another port", {
            let mut other = packet.clone();
            other.dst.set_port(NODE_PORT + 9);
            other.bytes()
        }),
        ("Ethernet alone", plain[..14].to_vec()),
        ("cut in IP", plain[..30].to_vec()),
        ("cut in L4", plain[..if family.v6 { 60 } else { 40 }].to_vec()),
    ];
    if family.v6 {
        let next = plain[20];
        let mut extended = with(&plain, 54, 0, &[next, 0, 1, 4, 0, 0, 0, 0]);
        extended[20] = 0;
        odd.push(("hop-by-hop options", extended));
        odd.push(("fragment", {
            let mut fragment = with(&plain, 54, 0, &[next, 0, 0, 1, 0, 0, 0, 9]);
            fragment[20] = 44;
            fragment
        }));
        odd.push(("version", with(&plain, 14, 1, &[0x45])));
    } else {
        odd.push(("IP options", with(&with(&plain, 34, 0, &[1, 1, 1, 0]), 14, 1, &[0x46])));
        odd.push(("first fragment", with(&plain, 20, 2, &[0x20, 0])));
        odd.push(("later fragment", with(&plain, 20, 2, &[0, 185])));
        odd.push(("version", with(&plain, 14, 1, &[0x65])));
    }
    if packet.proto == TCP {
        odd.push(("FIN", flagged(FIN | ACK)));
        odd.push(("RST", flagged(RST)));
        odd.push(("RST and ACK", flagged(RST | ACK)));
        odd.push(("SYN again", flagged(SYN)));
        odd.push(("SYN and FIN", flagged(SYN | FIN)));
    }
    odd
}

#[test]
fn odd_frames_of_a_known_flow_go_up_untouched() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let (packet, _) = established(&node, family, proto);
            for (what, frame) in odd_frames(family, &packet) {
                // The flow itself is served right before: nothing but the oddity makes it go up.
                forwarded(&node, &packet.bytes());
                passes_up(&node, what, &frame);
            }
        }
    }
}

#[test]
fn odd_first_packets_go_up_and_open_nothing() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(node_port(family, proto), &[&backend]);
            let packet = request(family, proto);
            for (what, frame) in odd_frames(family, &packet) {
                if what != "SYN again" {
                    passes_up(&node, what, &frame);
                    assert_eq!(flows(&node), (0, 0), "{what}");
                }
            }
            if proto == TCP {
                for flags in [0, ACK, SYN | ACK, SYN | RST] {
                    passes_up(&node, "flags", &Packet { flags, ..packet.clone() }.bytes());
                }
                assert_eq!(flows(&node), (0, 0));
            }
        }
    }
}

/// Changes the entry of the flow that `packet` belongs to.
fn change(node: &Node, packet: &Packet, change: impl Fn(&mut Flow)) {
    let flows = &node.objects.maps().flows;
    for (key, mut flow) in flows.entries().unwrap() {
        if key.sport.get() == packet.src.port() && key.dport.get() == packet.dst.port() {
            change(&mut flow);
            flows.set(&key, &flow).unwrap();
        }
    }
}

#[test]
fn what_must_be_written_down_or_looked_up_goes_up() {
    type Change = fn(&mut Flow);
    let changes: [(&str, Change); 8] = [
        ("a new tick", |flow| flow.last_seen = flow.last_seen.wrapping_sub(1)),
        ("another route", |flow| flow.route_epoch = flow.route_epoch.wrapping_add(1)),
        ("no MAC", |flow| flow.flags |= flow_flag::NO_MAC),
        ("half-open", |flow| flow.flags |= flow_flag::NEW),
        ("a pod's", |flow| flow.in_ifindex = 9),
        ("the stack", |flow| flow.kind = 1),
        ("a local pod", |flow| flow.kind = 2),
        ("a tunnel", |flow| flow.kind = 4),
    ];
    for family in FAMILIES {
        for (what, set) in changes {
            let node = Node::new();
            let (packet, _) = established(&node, family, TCP);
            forwarded(&node, &packet.bytes());
            change(&node, &packet, set);
            passes_up(&node, what, &packet.bytes());
        }
    }
}

#[test]
fn a_moved_route_epoch_sends_the_next_packet_up_and_only_that() {
    for family in FAMILIES {
        let node = Node::new();
        let (packet, _) = established(&node, family, TCP);
        forwarded(&node, &packet.bytes());
        node.objects.maps().move_route_epoch().unwrap();
        passes_up(&node, "the epoch moved", &packet.bytes());
        node.wire_ok(&packet);
        forwarded(&node, &packet.bytes());
    }
}

#[test]
fn datagrams_to_a_backend_that_left_go_up() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 8080);
        let service = node.objects.serve(node_port(family, UDP), &[&backend]);
        let packet = request(family, UDP);
        node.wire_ok(&packet);
        forwarded(&node, &packet.bytes());
        node.objects.set_target(&service.targets()[0], TargetStatus::Gone);
        passes_up(&node, "its backend left", &packet.bytes());
    }
}

#[test]
fn the_first_answers_go_up() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(node_port(family, proto), &[&backend]);
            let sent = node.wire_ok(&request(family, proto));
            passes_up(&node, "an answer", &answer(&sent, SYN | ACK).bytes());
        }
    }
}

#[test]
fn first_packets_that_only_bpf_host_serves_go_up() {
    for family in FAMILIES {
        let node = Node::new();
        let vip = family.at(family.vip, 80);
        let [remote, local] = [family.remote, family.pod].map(|backend| family.at(backend, 8080));
        let to = |port: u16| {
            let mut packet = request(family, TCP);
            packet.dst.set_port(port);
            packet.bytes()
        };
        let at = |port: u16| Frontend { port, ..node_port(family, TCP) };

        let _local = node.objects.serve(at(NODE_PORT), &[&local]);
        passes_up(&node, "a local backend", &to(NODE_PORT));
        let _empty = node.objects.serve(at(NODE_PORT + 1), &[]);
        passes_up(&node, "no backend", &to(NODE_PORT + 1));
        let _inside = node.objects.serve(Frontend::cluster_ip(&vip, TCP), &[&remote]);
        let client = family.at(family.client, 40001);
        passes_up(&node, "a ClusterIP", &tcp(&client, &vip, SYN).bytes());
        let here = family.at(family.node, 8080);
        let _here = node.objects.serve(at(NODE_PORT + 3), &[&here]);
        node.objects.own(family.node, OWNED_NODEPORT);
        passes_up(&node, "a backend in the host's network", &to(NODE_PORT + 3));
        let closed = node.objects.serve(at(NODE_PORT + 5), &[&remote]);
        closed.change(|service| service.flags |= SERVICE_SOURCE_RANGES);
        passes_up(&node, "a client out of range", &to(NODE_PORT + 5));
        assert_eq!(flows(&node), (0, 0));

        let _plain = node.objects.serve(at(NODE_PORT + 4), &[&remote]);
        let (_, frame) = driver(&node, &to(NODE_PORT + 4));
        assert_ne!(frame, to(NODE_PORT + 4), "the same service without the oddity");
    }
}

#[test]
fn an_unknown_next_hop_goes_up_and_opens_nothing() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let router = if family.v6 { "fd09::fe" } else { "10.9.0.254" };
        node.ns.ip(&format!("neigh del {router} dev eth0"));
        passes_up(&node, "no neighbour", &request(family, TCP).bytes());
        assert_eq!(flows(&node), (0, 0));
    }
}
