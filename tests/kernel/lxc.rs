// SPDX-License-Identifier: Apache-2.0
//! bpf_lxc, one packet at a time: what leaves a pod.

use culvert::abi::{Outcome, SERVICE_HAS_ENDPOINTS, SlotRange, TargetStatus};

use super::host::{NODE_PORT, node_port};
use crate::support::node::{
    FAMILIES, Family, HOST_MAC, Node, POD_MAC, TC_DROP, TC_NEXT, TC_REDIRECT, V4,
};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, Packet, SYN, tcp, udp};

fn request(family: Family, proto: u8) -> Packet {
    let (src, dst) = (family.at(family.pod, 40001), family.at(family.vip, 80));
    if proto == TCP { tcp(&src, &dst, SYN) } else { udp(&src, &dst) }
}

fn cluster_ip(family: Family, proto: u8) -> Frontend {
    Frontend::cluster_ip(&family.at(family.vip, 80), proto)
}

#[test]
fn a_pod_reaches_a_pod_of_its_node_without_a_flow() {
    for family in FAMILIES {
        let node = Node::new();
        let packet = tcp(&family.at(family.pod, 40001), &family.at(family.other_pod, 80), SYN);
        let sent = node.leave_ok(&packet);
        assert_eq!((sent.src, sent.dst, sent.ttl), (packet.src, packet.dst, 63));
        assert_eq!((sent.dmac, sent.smac), (POD_MAC, HOST_MAC));
        assert!(node.objects.maps().flows_new.entries().unwrap().is_empty());
    }
}

#[test]
fn a_pod_reaches_what_the_routing_table_knows() {
    for family in FAMILIES {
        let node = Node::new();
        let packet = udp(&family.at(family.pod, 40001), &family.at(family.remote, 53));
        let sent = node.leave_ok(&packet);
        assert_eq!((sent.src, sent.dst, sent.ttl), (packet.src, packet.dst, 63));
        assert_eq!(node.counted(Outcome::Forwarded), 1);
    }
}

#[test]
fn the_hosts_own_addresses_are_left_to_its_stack() {
    for family in FAMILIES {
        let node = Node::new();
        let packet = tcp(&family.at(family.pod, 40001), &family.at(family.node, 22), SYN);
        let (action, frame) = node.leave(&packet);
        assert_eq!((action, frame), (TC_NEXT, packet.bytes()));
    }
}

#[test]
fn a_source_that_is_not_the_pods_is_dropped() {
    for family in FAMILIES {
        let node = Node::new();
        for source in [family.other_pod, family.client, family.node] {
            let packet = tcp(&family.at(source, 1), &family.at(family.remote, 80), SYN);
            assert_eq!(node.leave(&packet).0, TC_DROP, "{source}");
        }
        assert_eq!(node.counted(Outcome::DropSpoofed), 3);
    }
    let node = Node::new();
    for (source, destination) in
        [("[fe80::5]:1", "[ff02::2]:2"), ("0.0.0.0:68", "255.255.255.255:67")]
    {
        assert_eq!(node.leave(&udp(source, destination)).0, TC_NEXT, "{source}");
    }
}

#[test]
fn a_pod_reaches_a_service_with_a_remote_backend() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(cluster_ip(family, proto), &[&backend]);
            let request = request(family, proto);
            let sent = node.leave_ok(&request);
            assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));

            let reply = node.wire_ok(&sent.answer(SYN | ACK));
            assert_eq!((reply.src, reply.dst), (request.dst, request.src));
            assert_eq!((reply.dmac, reply.smac), (POD_MAC, HOST_MAC));
        }
    }
}

#[test]
fn a_pod_reaches_a_service_with_a_backend_beside_it() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.other_pod, 8080);
        let _service = node.objects.serve(cluster_ip(family, TCP), &[&backend]);
        let request = request(family, TCP);
        let sent = node.leave_ok(&request);
        assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));

        let answer = sent.answer(SYN | ACK).bytes();
        let (action, frame) = node.raw("from_container", node.other_pod, &answer);
        let reply = Packet::parse(&frame);
        assert_eq!(action, TC_REDIRECT);
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

#[test]
fn pods_that_a_service_connects_talk_directly_too() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let backend = family.at(family.other_pod, 8080);
            let _service = node.objects.serve(cluster_ip(family, proto), &[&backend]);
            let to = |port| family.at(family.other_pod, port);
            let from = family.at(family.pod, 40002);
            let direct = |to: &str| if proto == TCP { tcp(&from, to, ACK) } else { udp(&from, to) };
            for _ in 0..2 {
                let sent = node.leave_ok(&direct(&to(8081)));
                assert_eq!(
                    (sent.src, sent.dst),
                    (from.parse().unwrap(), to(8081).parse().unwrap())
                );
                // From now on the two have a flow, and every packet of theirs looks for its own.
                let sent = node.leave_ok(&request(family, proto));
                assert_eq!(sent.dst, backend.parse().unwrap());
                let answer = sent.answer(SYN | ACK).bytes();
                let (_, frame) = node.raw("from_container", node.other_pod, &answer);
                assert_eq!(Packet::parse(&frame).src, request(family, proto).dst);
            }
        }
    }
}

/// A load balancer outside sends a pod's own connection back to its node, with the pod's address.
#[test]
fn a_pods_packet_that_comes_back_from_outside_is_answered() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.other_pod, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let request = tcp(&family.at(family.pod, 40001), &family.at(family.node, NODE_PORT), SYN);
        let sent = node.wire_ok(&request);
        assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));
        let answer = sent.answer(SYN | ACK).bytes();
        let (_, frame) = node.raw("from_container", node.other_pod, &answer);
        let reply = Packet::parse(&frame);
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

/// A version without `pod_pairs` opened the flow: its programs marked nothing.
#[test]
fn flows_that_are_older_than_marks_are_found() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.other_pod, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let request = tcp(&family.at(family.pod, 40001), &family.at(family.node, NODE_PORT), SYN);
        let answer = node.wire_ok(&request).answer(SYN | ACK).bytes();
        node.objects.unpin("pod_pairs");
        // Loaded here and now.
        let (_, frame) = node.raw("from_container", node.other_pod, &answer);
        let reply = Packet::parse(&frame);
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.pod, 8080);
        let _service = node.objects.serve(cluster_ip(family, TCP), &[&backend]);
        let request = request(family, TCP);
        let sent = node.leave_ok(&request);
        assert_eq!(sent.dst, backend.parse().unwrap());
        assert_eq!(sent.src, family.at(family.hairpin, 40001).parse().unwrap());

        let reply = node.leave_ok(&sent.answer(SYN | ACK));
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

#[test]
fn a_backend_in_the_hosts_network_answers_as_the_service() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.node, 8080);
        let _service = node.objects.serve(cluster_ip(family, TCP), &[&backend]);
        let request = request(family, TCP);
        let (action, frame) = node.leave(&request);
        let sent = Packet::parse(&frame);
        assert_eq!((action, sent.dst), (TC_NEXT, backend.parse().unwrap()));

        let answer = sent.answer(SYN | ACK).bytes();
        let (action, frame) = node.raw("to_container", node.pod, &answer);
        let reply = Packet::parse(&frame);
        assert_eq!((action, reply.src, reply.dst), (TC_NEXT, request.dst, request.src));
    }
}

#[test]
fn a_service_without_endpoints_refuses_the_pod_at_once() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let service = node.objects.serve(cluster_ip(family, proto), &[]);
            let request = request(family, proto);
            let (action, frame) = node.leave(&request);
            let error = IcmpError::parse(&frame);
            assert_eq!(action, TC_REDIRECT);
            assert_eq!((error.kind, error.code), if family.v6 { (1, 4) } else { (3, 3) });
            assert_eq!(error.quoted, (request.src, request.dst));

            service.change(|service| {
                service.flags = SERVICE_HAS_ENDPOINTS;
                service.inside = SlotRange::default();
            });
            assert_eq!(node.leave(&request).0, TC_DROP);
            assert_eq!(node.counted(Outcome::DropNoLocal), 1);
        }
    }
}

#[test]
fn datagrams_of_a_pod_leave_a_backend_that_is_gone() {
    let node = Node::new();
    let service = node.objects.serve(cluster_ip(V4, UDP), &[&V4.at(V4.remote, 53)]);
    let request = request(V4, UDP);
    node.leave_ok(&request);
    let gone = service.targets()[0];
    let other = node.objects.target(&V4.at("10.244.2.9", 53));
    service.set_backends(&[other]);
    node.objects.set_target(&gone, TargetStatus::Gone);
    assert_eq!(node.leave_ok(&request).dst, other.address);
}

#[test]
fn legacy_routing_translates_and_leaves_the_way_to_the_stack() {
    let node = Node::with(|config| config.bpf_host_routing = 0);
    let backend = V4.at(V4.other_pod, 8080);
    let _service = node.objects.serve(cluster_ip(V4, TCP), &[&backend]);
    let (action, frame) = node.leave(&request(V4, TCP));
    let sent = Packet::parse(&frame);
    assert_eq!((action, sent.dst), (TC_NEXT, backend.parse().unwrap()));
    assert_eq!(sent.ttl, 64, "the stack will lower it");

    let direct = tcp(&V4.at(V4.pod, 40002), &backend, SYN);
    let (action, frame) = node.leave(&direct);
    assert_eq!((action, frame), (TC_NEXT, direct.bytes()));
}

#[test]
fn unknown_protocols_do_not_leave_a_pod() {
    let node = Node::new();
    let mut frame = tcp(&V4.at(V4.pod, 1), &V4.at(V4.remote, 2), ACK).bytes();
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    assert_eq!(node.raw("from_container", node.pod, &frame).0, TC_DROP);
}
