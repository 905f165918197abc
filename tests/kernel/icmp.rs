// SPDX-License-Identifier: Apache-2.0
//! ICMP errors about translated packets: whoever sent the quoted packet must recognise it.

use std::net::SocketAddr;

use culvert::abi::{Outcome, ServiceKind};

use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_NEXT, TC_REDIRECT, V4};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, Packet, SYN, tcp, udp};

/// A router on the way.
fn router(family: Family) -> &'static str {
    if family.v6 { "fd09::fe" } else { "10.9.0.254" }
}

/// Type and code of "too big".
fn too_big(family: Family) -> (u8, u8) {
    if family.v6 { (2, 0) } else { (3, 4) }
}

/// Those and the others that a router tells of a packet: no route, TTL exceeded, and of reassembly.
fn errors(family: Family) -> Vec<(u8, u8)> {
    let others = if family.v6 { [(1, 0), (3, 0), (3, 1)] } else { [(3, 1), (11, 0), (11, 1)] };
    [&others[..], &[too_big(family)]].concat()
}

fn service(node: &Node, family: Family, proto: u8, backend: &str) -> Packet {
    let vip = family.at(family.vip, 80);
    let frontend = Frontend::cluster_ip(&vip, proto).kind(ServiceKind::LoadBalancer);
    node.objects.serve(frontend, &[backend]);
    let client = family.at(family.client, 40001);
    if proto == TCP { tcp(&client, &vip, SYN) } else { udp(&client, &vip) }
}

/// Sends the error through `program`; returns it as it leaves.
#[track_caller]
fn through(node: &Node, program: &str, ifindex: u32, error: &[u8]) -> IcmpError {
    let (action, frame) = node.raw(program, ifindex, error);
    assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
    IcmpError::parse(&frame)
}

#[track_caller]
fn check(error: &IcmpError, from: &str, to: SocketAddr, quoted: &Packet) {
    assert_eq!((error.src, error.dst), (from.parse().unwrap(), to.ip()));
    assert_eq!(error.quoted, (quoted.src, quoted.dst));
}

#[test]
fn a_router_behind_the_node_reaches_the_client() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let node = Node::new();
            let request = service(&node, family, proto, &family.at(family.remote, 8080));
            let sent = node.wire_ok(&request);
            for (kind, code) in errors(family) {
                let error = IcmpError::frame(router(family), &sent, kind, code);
                let got = through(&node, "from_netdev", node.uplink, &error);
                check(&got, router(family), request.src, &request);
                assert_eq!((got.kind, got.code), (kind, code));
            }
        }
    }
}

#[test]
fn a_backend_that_refuses_is_known_to_the_client_as_the_service() {
    for family in FAMILIES {
        let node = Node::new();
        let request = service(&node, family, UDP, &family.at(family.remote, 8080));
        let sent = node.wire_ok(&request);
        let (kind, code) = if family.v6 { (1, 4) } else { (3, 3) };
        let error = IcmpError::frame(family.remote, &sent, kind, code);
        let got = through(&node, "from_netdev", node.uplink, &error);
        check(&got, family.vip, request.src, &request);
    }
}

#[test]
fn a_local_pod_that_refuses_is_known_to_the_client_as_the_service() {
    for family in FAMILIES {
        let node = Node::new();
        let request = service(&node, family, UDP, &family.at(family.pod, 8080));
        let sent = node.wire_ok(&request);
        let (kind, code) = if family.v6 { (1, 4) } else { (3, 3) };
        let error = IcmpError::frame(family.pod, &sent, kind, code);
        let got = through(&node, "from_container", node.pod, &error);
        check(&got, family.vip, request.src, &request);

        let (action, _) = node.raw("from_container", node.other_pod, &error);
        assert_eq!(action, TC_DROP, "another pod spoke for it");
        assert_eq!(node.counted(Outcome::DropSpoofed), 1);
    }
}

#[test]
fn a_router_before_the_node_reaches_the_backend() {
    for family in FAMILIES {
        for backend in [family.remote, family.pod] {
            let node = Node::new();
            let request = service(&node, family, TCP, &family.at(backend, 8080));
            let sent = node.wire_ok(&request);
            let answer = sent.answer(SYN | ACK);
            let reply =
                if backend == family.pod { node.leave_ok(&answer) } else { node.wire_ok(&answer) };
            for (kind, code) in errors(family) {
                let error = IcmpError::frame(router(family), &reply, kind, code);
                let got = through(&node, "from_netdev", node.uplink, &error);
                check(&got, router(family), answer.src, &answer);
                assert_eq!((got.kind, got.code), (kind, code));
            }
        }
    }
}

#[test]
fn a_pod_behind_its_service_learns_of_its_path() {
    for family in FAMILIES {
        let node = Node::new();
        let vip = family.at(family.vip, 80);
        node.objects.serve(Frontend::cluster_ip(&vip, TCP), &[&family.at(family.remote, 8080)]);
        let request = tcp(&family.at(family.pod, 40001), &vip, SYN);
        let sent = node.leave_ok(&request);
        for (kind, code) in errors(family) {
            let error = IcmpError::frame(router(family), &sent, kind, code);
            let got = through(&node, "from_netdev", node.uplink, &error);
            check(&got, router(family), request.src, &request);
            assert_eq!((got.kind, got.code), (kind, code));
        }
    }
}

#[test]
fn an_error_about_somebody_elses_packet_passes_untouched() {
    for family in FAMILIES {
        let node = Node::new();
        let request = service(&node, family, UDP, &family.at(family.remote, 8080));
        node.wire_ok(&request);
        let other = udp(&family.at(family.node, 50001), &family.at(family.remote, 8080));
        let (kind, code) = too_big(family);
        let error = IcmpError::frame(router(family), &other, kind, code);
        assert_eq!(node.raw("from_netdev", node.uplink, &error), (TC_NEXT, error.clone()));

        let short = &error[..error.len() - 30];
        assert_eq!(node.raw("from_netdev", node.uplink, short).0, TC_NEXT);
    }
    let node = Node::new();
    let mut echo = IcmpError::frame(V4.client, &udp("10.9.0.1:1", "10.9.0.2:2"), 8, 0);
    echo[14 + 20] = 8;
    assert_eq!(node.raw("from_netdev", node.uplink, &echo), (TC_NEXT, echo.clone()));
}

#[test]
fn a_direct_packet_beside_a_service_whose_ttl_ends_here_is_told() {
    for family in FAMILIES {
        for ttl in [0, 1] {
            let node = Node::new();
            let request = service(&node, family, UDP, &family.at(family.pod, 8080));
            node.wire_ok(&request);
            let client = request.src.to_string();
            let direct = udp(&client, &family.at(family.pod, 8080)).ttl(ttl);
            let (_, frame) = node.wire(&direct);
            let error = IcmpError::parse(&frame);
            let exceeded = if family.v6 { (3, 0) } else { (11, 0) };
            assert_eq!((error.kind, error.code), exceeded, "TTL {ttl}");
        }
    }
}

#[test]
fn an_error_that_quotes_another_version_passes_untouched() {
    for family in FAMILIES {
        let node = Node::new();
        let request = service(&node, family, TCP, &family.at(family.remote, 8080));
        let sent = node.wire_ok(&request);
        let (kind, code) = too_big(family);
        let mut error = IcmpError::frame(router(family), &sent, kind, code);
        let quote = 14 + if family.v6 { 40 } else { 20 } + 8;
        error[quote] ^= 0x90;
        assert_eq!(node.raw("from_netdev", node.uplink, &error), (TC_NEXT, error.clone()));
    }
}
