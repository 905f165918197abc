// SPDX-License-Identifier: Apache-2.0
//! bpf_host, one packet at a time: NodePort, externalIP and LoadBalancer traffic from outside.

use culvert::abi::{OWNED_NODEPORT, Outcome, SERVICE_HAS_ENDPOINTS, ServiceKind, SlotRange};

use crate::support::node::{
    FAMILIES, Family, HOST_MAC, Node, POD_MAC, ROUTER_MAC, TC_DROP, TC_NEXT, TC_REDIRECT, V4,
};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, Packet, SYN, tcp, udp};

pub(super) const NODE_PORT: u16 = 30080;

pub(super) fn node_port(family: Family, proto: u8) -> Frontend {
    if family.v6 {
        Frontend::node_port_v6(NODE_PORT, proto)
    } else {
        Frontend::node_port_v4(NODE_PORT, proto)
    }
}

pub(super) fn load_balancer(family: Family, port: u16) -> Frontend {
    Frontend::cluster_ip(&family.at(family.vip, port), TCP).kind(ServiceKind::LoadBalancer)
}

pub(super) fn request(family: Family, proto: u8) -> Packet {
    let (src, dst) = (family.at(family.client, 40001), family.at(family.node, NODE_PORT));
    if proto == TCP { tcp(&src, &dst, SYN) } else { udp(&src, &dst) }
}

/// SYN, SYN-ACK and ACK of `request` through the node. Returns the SYN as the backend got it.
pub(super) fn handshake(node: &Node, request: &Packet) -> Packet {
    let syn = node.wire_ok(request);
    node.wire_ok(&syn.answer(SYN | ACK));
    node.wire_ok(&Packet { flags: ACK, ..request.clone() });
    syn
}

pub(super) fn flows(node: &Node) -> (usize, usize) {
    let maps = node.objects.maps();
    (maps.flows.entries().unwrap().len(), maps.flows_new.entries().unwrap().len())
}

#[test]
fn a_remote_backend_sees_the_node_and_the_client_sees_the_service() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(node_port(family, proto), &[&backend]);

            let request = request(family, proto);
            let sent = node.wire_ok(&request);
            assert_eq!(sent.dst, backend.parse().unwrap());
            assert_eq!(sent.src, family.at(family.node, 40001).parse().unwrap());
            assert_eq!(sent.ttl, request.ttl - 1);
            assert_eq!(sent.payload, request.payload);

            let reply = node.wire_ok(&sent.answer(SYN | ACK));
            assert_eq!((reply.src, reply.dst), (request.dst, request.src));
            assert_eq!(reply.payload, request.payload);
        }
    }
}

#[test]
fn an_established_flow_leaves_with_the_next_hops_mac() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let request = request(family, TCP);
        handshake(&node, &request);

        // A tick's first packet is left to the kernel's neighbour code: one of three is not.
        let data = Packet { flags: ACK, ..request };
        let macs: Vec<_> = (0..3).map(|_| node.wire_ok(&data).dmac).collect();
        assert!(macs.contains(&ROUTER_MAC), "{macs:02x?}");
    }
}

#[test]
fn a_local_pod_sees_the_client_itself() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let backend = family.at(family.pod, 8080);
            let _service = node.objects.serve(node_port(family, proto), &[&backend]);

            let request = request(family, proto);
            let sent = node.wire_ok(&request);
            assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));
            assert_eq!((sent.dmac, sent.smac), (POD_MAC, HOST_MAC));

            let reply = node.leave_ok(&sent.answer(SYN | ACK));
            assert_eq!((reply.src, reply.dst), (request.dst, request.src));
        }
    }
}

#[test]
fn two_services_and_one_client_port_to_one_backend_stay_apart() {
    for family in FAMILIES {
        for backend in [family.remote, family.pod] {
            let node = Node::new();
            let backend = family.at(backend, 8080);
            let local = backend == family.at(family.pod, 8080);
            let _one = node.objects.serve(load_balancer(family, 80), &[&backend]);
            let _two = node.objects.serve(load_balancer(family, 81), &[&backend]);

            let client = family.at(family.client, 40001);
            let requests = [80, 81].map(|port| tcp(&client, &family.at(family.vip, port), SYN));
            let sent = requests.each_ref().map(|request| node.wire_ok(request));
            assert_ne!(sent[0].src, sent[1].src, "{backend}");
            for (request, sent) in requests.iter().zip(&sent) {
                let answer = sent.answer(SYN | ACK);
                let reply = if local { node.leave_ok(&answer) } else { node.wire_ok(&answer) };
                assert_eq!((reply.src, reply.dst), (request.dst, request.src), "{backend}");
            }
        }
    }
}

#[test]
fn a_direct_connection_beside_a_service_keeps_its_answers() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.pod, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let through_service = node.wire_ok(&request(family, TCP));

        let direct = tcp(&family.at(family.client, 40001), &backend, SYN);
        let sent = node.wire_ok(&direct);
        assert_ne!(sent.src, through_service.src);
        let reply = node.leave_ok(&sent.answer(SYN | ACK));
        assert_eq!((reply.src, reply.dst), (direct.dst, direct.src));
        let other = node.leave_ok(&through_service.answer(SYN | ACK));
        assert_eq!(other.src, request(family, TCP).dst);
    }
}

#[test]
fn a_service_without_endpoints_refuses_the_client_at_once() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let _service = node.objects.serve(node_port(family, proto), &[]);
            let request = request(family, proto);
            let (action, frame) = node.wire(&request);
            let error = IcmpError::parse(&frame);
            let unreachable = if family.v6 { (1, 4) } else { (3, 3) };
            assert_eq!(action, TC_REDIRECT);
            assert_eq!((error.kind, error.code), unreachable);
            assert_eq!((error.src, error.dst), (request.dst.ip(), request.src.ip()));
            assert_eq!(error.quoted, (request.src, request.dst));
            assert_eq!(&frame[..6], request.smac);
            assert_eq!(node.counted(Outcome::Rejected), 1);
        }
    }
}

#[test]
fn a_local_service_without_an_endpoint_here_drops() {
    let node = Node::new();
    let service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    service.change(|service| {
        service.outside = SlotRange::default();
        service.flags = SERVICE_HAS_ENDPOINTS;
    });
    assert_eq!(node.wire(&request(V4, TCP)).0, TC_DROP);
    assert_eq!(node.counted(Outcome::DropNoLocal), 1);
}

#[test]
fn a_cluster_ip_is_not_served_to_the_outside() {
    for family in FAMILIES {
        let node = Node::new();
        let vip = family.at(family.vip, 80);
        let frontend = Frontend::cluster_ip(&vip, TCP);
        let _service = node.objects.serve(frontend, &[&family.at(family.remote, 8080)]);
        let packet = tcp(&family.at(family.client, 40001), &vip, SYN);
        assert_eq!(node.wire(&packet).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropClusterIp), 1);
    }
}

#[test]
fn a_node_port_is_served_on_owned_addresses_only() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    let later = tcp(&V4.at(V4.client, 40001), "10.9.0.77:30080", SYN);
    let (action, frame) = node.wire(&later);
    assert_eq!((action, &frame), (TC_NEXT, &later.bytes()));
    node.objects.own("10.9.0.77", OWNED_NODEPORT);
    assert_eq!(node.wire_ok(&later).dst, V4.at(V4.remote, 8080).parse().unwrap());
}

#[test]
fn a_ttl_that_ends_here_is_told_to_the_sender() {
    for family in FAMILIES {
        let node = Node::new();
        let _service =
            node.objects.serve(node_port(family, TCP), &[&family.at(family.remote, 8080)]);
        let request = request(family, TCP).ttl(1);
        let (_, frame) = node.wire(&request);
        let error = IcmpError::parse(&frame);
        let exceeded = if family.v6 { (3, 0) } else { (11, 0) };
        assert_eq!((error.kind, error.code), exceeded);
        assert_eq!(error.quoted, (request.src, request.dst));
        assert_eq!(node.counted(Outcome::DropTtl), 1);
    }
}

#[test]
fn a_packet_too_big_for_the_next_link_is_told_to_the_sender() {
    for family in FAMILIES {
        let node = Node::new();
        let _service = node.objects.serve(node_port(family, UDP), &[&family.at(family.remote, 53)]);
        let mut request = request(family, UDP);
        node.wire_ok(&request);
        request.payload = vec![7; 1600];
        let (_, frame) = node.wire(&request);
        let error = IcmpError::parse(&frame);
        let too_big = if family.v6 { (2, 0) } else { (3, 4) };
        assert_eq!((error.kind, error.code), too_big);
        assert_eq!(node.counted(Outcome::DropTooBig), 1);
    }
}

#[test]
fn a_frame_for_another_host_is_left_alone() {
    // A switch floods what it does not know, and a service's address may be every node's.
    for family in FAMILIES {
        let node = Node::new();
        let backends = [family.at(family.remote, 8080)];
        let _service = node.objects.serve(load_balancer(family, 80), &[&backends[0]]);
        let packet = tcp(&family.at(family.client, 40001), &family.at(family.vip, 80), SYN);
        node.wire_ok(&packet);
        for dmac in [ROUTER_MAC, [0xff; 6]] {
            let flooded = Packet { dmac, ..packet.clone() };
            assert_eq!(node.wire(&flooded), (TC_NEXT, flooded.bytes()));
        }
    }
}

#[test]
fn legacy_routing_sends_what_the_stack_would_take_for_a_martian() {
    for family in FAMILIES {
        let node = Node::with(|config| config.bpf_host_routing = 0);
        let remote = family.at(family.remote, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&remote]);
        let request = request(family, TCP);
        // Both have a source that is the node's own.
        let sent = node.wire_ok(&request);
        let reply = node.wire_ok(&sent.answer(SYN | ACK));
        assert_eq!((sent.ttl, reply.ttl), (request.ttl - 1, 63));
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

#[test]
fn a_datagram_without_a_checksum_stays_without_one() {
    const CHECKSUM: std::ops::Range<usize> = 40..42;
    for backend in [V4.remote, V4.pod] {
        let node = Node::new();
        let _service = node.objects.serve(node_port(V4, UDP), &[&V4.at(backend, 53)]);
        let mut frame = request(V4, UDP).bytes();
        frame[CHECKSUM].fill(0);
        let (action, sent) = node.raw("from_netdev", node.uplink, &frame);
        assert_eq!((action, &sent[CHECKSUM]), (TC_REDIRECT, &[0, 0][..]), "{backend}");
    }
}

#[test]
fn headers_cut_short_are_dropped_and_counted() {
    for family in FAMILIES {
        let node = Node::new();
        let whole = request(family, TCP).bytes();
        let header = 14 + if family.v6 { 40 } else { 20 };
        for length in [header + 1, header + 19] {
            let (action, _) = node.raw("from_netdev", node.uplink, &whole[..length]);
            assert_eq!(action, TC_DROP, "{length} bytes");
        }
        assert_eq!(node.counted(Outcome::DropMalformed), 2);
    }
}
