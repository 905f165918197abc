// SPDX-License-Identifier: Apache-2.0
//! Addresses of services beyond their frontends: unknown ports, echo, who may ask, which ports the
//! node's own addresses serve.

use culvert::abi::{
    Addr, OWNED_NODEPORT, Outcome, SERVICE_SOURCE_RANGES, SERVICE_SOURCE_RANGES_DENY, ServiceKind,
    Settings, SourceRange, SourceRangeKey, VIP_CLUSTER_IP, VIP_EXTERNAL, VIP_FOREIGN,
};

use super::host::{NODE_PORT, flows};
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_NEXT, TC_REDIRECT, V4, ip};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::icmp::{Echo, IcmpError};
use crate::support::packet::{ACK, Packet, SYN, tcp, udp};

const SERVED: u16 = 80;
const UNKNOWN: u16 = 81;

fn frontend(family: Family, kind: ServiceKind) -> Frontend {
    Frontend::cluster_ip(&family.at(family.vip, SERVED), TCP).kind(kind)
}

fn ask(family: Family, from: &str, port: u16) -> Packet {
    tcp(&family.at(from, 40001), &family.at(family.vip, port), SYN)
}

#[track_caller]
fn check_refused(node: &Node, family: Family, request: &Packet, (action, frame): (u32, Vec<u8>)) {
    assert_eq!(action, TC_REDIRECT, "{request:?}: {:?}", node.outcomes());
    let error = IcmpError::parse(&frame);
    assert_eq!((error.kind, error.code), if family.v6 { (1, 4) } else { (3, 3) });
    assert_eq!((error.src, error.dst), (request.dst.ip(), request.src.ip()));
    assert_eq!(error.quoted, (request.src, request.dst));
}

#[test]
fn an_unknown_port_of_a_cluster_ip_is_refused_inside_and_dropped_outside() {
    for family in FAMILIES {
        let node = Node::new();
        let _service = node
            .objects
            .serve(frontend(family, ServiceKind::ClusterIp), &[&family.at(family.remote, 8080)]);
        let udp = udp(&family.at(family.pod, 40001), &family.at(family.vip, SERVED));
        for request in [ask(family, family.pod, UNKNOWN), udp] {
            check_refused(&node, family, &request, node.leave(&request));
        }
        assert_eq!(node.counted(Outcome::DropUnknownPort), 2);

        assert_eq!(node.wire(&ask(family, family.client, UNKNOWN)).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropClusterIp), 1);
    }
}

#[test]
fn without_node_ports_a_cluster_ip_is_left_to_who_serves_the_outside() {
    for family in FAMILIES {
        let node = Node::with(|config| config.nodeport = 0);
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(frontend(family, ServiceKind::ClusterIp), &[&backend]);
        for port in [SERVED, UNKNOWN] {
            let packet = ask(family, family.client, port);
            assert_eq!(node.wire(&packet), (TC_NEXT, packet.bytes()));
        }
        let echo = Echo::request(family.client, family.vip).bytes();
        assert_eq!(node.raw("from_netdev", node.uplink, &echo), (TC_NEXT, echo));
        assert_eq!(node.counted(Outcome::Stack), 3);
    }
}

#[test]
fn an_unknown_port_of_a_load_balancer_is_refused_outside_and_travels_inside() {
    for family in FAMILIES {
        let node = Node::new();
        let _service = node
            .objects
            .serve(frontend(family, ServiceKind::LoadBalancer), &[&family.at(family.pod, 8080)]);
        let request = ask(family, family.client, UNKNOWN);
        check_refused(&node, family, &request, node.wire(&request));
        assert_eq!(node.counted(Outcome::DropUnknownPort), 1);

        let request = ask(family, family.pod, UNKNOWN);
        let sent = node.leave_ok(&request);
        assert_eq!((sent.src, sent.dst), (request.src, request.dst));
        assert_eq!(node.counted(Outcome::Forwarded), 1);
    }
}

#[test]
fn addresses_of_the_node_and_of_other_classes_are_never_swallowed() {
    for family in FAMILIES {
        for (flags, owned) in
            [(VIP_CLUSTER_IP | VIP_EXTERNAL, true), (VIP_CLUSTER_IP | VIP_FOREIGN, false)]
        {
            let node = Node::new();
            node.objects.vip(&ip(family.vip), flags);
            if owned {
                node.objects.own(family.vip, 0);
            }
            for frame in [
                ask(family, family.client, UNKNOWN).bytes(),
                Echo::request(family.client, family.vip).bytes(),
            ] {
                let (action, after) = node.raw("from_netdev", node.uplink, &frame);
                assert_eq!((action, after), (TC_NEXT, frame), "owned: {owned}");
            }
            let sent = node.leave_ok(&ask(family, family.pod, UNKNOWN));
            assert_eq!(sent.dst, family.at(family.vip, UNKNOWN).parse().unwrap());
        }
    }
}

#[test]
fn a_ping_to_a_service_is_answered() {
    for family in FAMILIES {
        for (flags, program, from) in [
            (VIP_CLUSTER_IP, "from_container", family.pod),
            (VIP_EXTERNAL, "from_netdev", family.client),
            (VIP_EXTERNAL, "from_container", family.pod),
        ] {
            let node = Node::new();
            node.objects.vip(&ip(family.vip), flags);
            let device = if from == family.pod { node.pod } else { node.uplink };
            let request = Echo::request(from, family.vip);
            let frame = request.bytes();
            let (action, answer) = node.raw(program, device, &frame);
            assert_eq!(action, TC_REDIRECT, "{program}: {:?}", node.outcomes());
            assert_eq!(answer[..12], [&frame[6..12], &frame[..6]].concat());
            let answer = Echo::parse(&answer);
            assert_eq!((answer.src, answer.dst), (request.dst, request.src));
            assert_eq!((answer.reply, answer.ttl, answer.body), (true, 64, request.body));
            assert_eq!(node.counted(Outcome::Answered), 1);
        }
    }
}

#[test]
fn a_ping_from_outside_to_a_cluster_ip_and_other_protocols_end_here() {
    for family in FAMILIES {
        let node = Node::new();
        node.objects.vip(&ip(family.vip), VIP_CLUSTER_IP);
        let echo = Echo::request(family.client, family.vip).bytes();
        assert_eq!(node.raw("from_netdev", node.uplink, &echo).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropClusterIp), 1);

        node.objects.vip(&ip(family.vip), VIP_EXTERNAL);
        let mut other = Echo::request(family.client, family.vip).bytes();
        other[if family.v6 { 14 + 6 } else { 14 + 9 }] = 47;
        assert_eq!(node.raw("from_netdev", node.uplink, &other).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropUnknownPort), 1);
    }
}

#[test]
fn an_external_ip_is_withheld_from_pods_unless_the_node_owns_it() {
    for family in FAMILIES {
        let node = Node::with(|config| config.external_ips_inside = 0);
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(frontend(family, ServiceKind::ExternalIp), &[&backend]);
        let request = ask(family, family.pod, SERVED);
        assert_eq!(node.leave_ok(&request).dst, request.dst);
        let echo = Echo::request(family.pod, family.vip);
        let (_, frame) = node.raw("from_container", node.pod, &echo.bytes());
        assert_eq!(Echo::parse(&frame).dst, echo.dst, "pods' own echo was answered");
        let served = node.wire_ok(&ask(family, family.client, SERVED));
        assert_eq!(served.dst, backend.parse().unwrap());

        node.objects.own(family.vip, OWNED_NODEPORT);
        assert_eq!(node.leave_ok(&request).dst, backend.parse().unwrap());
    }
    let node = Node::new();
    let backend = V4.at(V4.remote, 8080);
    let _service = node.objects.serve(frontend(V4, ServiceKind::ExternalIp), &[&backend]);
    let sent = node.leave_ok(&ask(V4, V4.pod, SERVED));
    assert_eq!(sent.dst, backend.parse().unwrap(), "the configuration allows it");
}

#[test]
fn a_host_ip_that_is_not_the_nodes_is_nobodys_and_travels() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.pod, 8080);
        let _service = node.objects.serve(frontend(family, ServiceKind::HostPort), &[&backend]);
        node.objects.vip(&ip(family.vip), 0);
        let from_pod = tcp(&family.at(family.other_pod, 1), &family.at(family.vip, SERVED), SYN);
        let leave = || node.raw("from_container", node.other_pod, &from_pod.bytes()).1;
        assert_eq!(Packet::parse(&leave()).dst, from_pod.dst);
        for port in [SERVED, UNKNOWN] {
            let routed = ask(family, family.client, port).bytes();
            let (action, after) = node.raw("from_netdev", node.uplink, &routed);
            assert_eq!((action, after), (TC_NEXT, routed), "{port}: {:?}", node.outcomes());
        }

        node.objects.own(family.vip, 0);
        assert_eq!(Packet::parse(&leave()).dst, backend.parse().unwrap());
        let served = node.wire_ok(&ask(family, family.client, SERVED));
        assert_eq!(served.dst, backend.parse().unwrap());
    }
}

#[test]
fn source_ranges_say_who_is_served_before_anything_is_translated() {
    for family in FAMILIES {
        for (flags, outsider, insider) in [
            (SERVICE_SOURCE_RANGES, TC_DROP, TC_REDIRECT),
            (SERVICE_SOURCE_RANGES | SERVICE_SOURCE_RANGES_DENY, TC_REDIRECT, TC_DROP),
        ] {
            let node = Node::new();
            let service = node.objects.serve(
                frontend(family, ServiceKind::LoadBalancer),
                &[&family.at(family.remote, 8080)],
            );
            service.change(|service| service.flags |= flags);
            let (net, outside) = if family.v6 {
                ("2001:db8::/64", "2001:db9::7")
            } else {
                ("192.0.2.0/24", "192.0.3.7")
            };
            let key = SourceRangeKey::new(service.id, net.parse().unwrap());
            node.objects.maps().source_ranges.set(&key, &SourceRange::default()).unwrap();
            // Another service's range says nothing about this one's clients.
            let key = SourceRangeKey::new(
                service.id + 1000,
                format!("{outside}/{}", if family.v6 { 128 } else { 32 }).parse().unwrap(),
            );
            node.objects.maps().source_ranges.set(&key, &SourceRange::default()).unwrap();

            assert_eq!(node.wire(&ask(family, family.client, SERVED)).0, insider);
            assert_eq!(node.wire(&ask(family, outside, SERVED)).0, outsider);
            assert_eq!(node.leave(&ask(family, family.pod, SERVED)).0, outsider);
            let denied = if outsider == TC_DROP { 2 } else { 1 };
            assert_eq!(node.counted(Outcome::DropDenied), denied);
        }
    }
}

#[test]
fn a_host_port_outside_the_node_ports_is_served_on_the_nodes_addresses() {
    const PORT: u16 = 8443;
    for family in FAMILIES {
        let node = Node::new();
        let vip = if family.v6 { Addr::V6_WILDCARD } else { Addr::V4_WILDCARD };
        let backend = family.at(family.pod, 443);
        for proto in [TCP, UDP] {
            let frontend = Frontend { vip, port: PORT, proto, kind: ServiceKind::HostPort };
            node.objects.serve(frontend, &[&backend]);
        }
        let (from, to) = (family.at(family.client, 40001), family.at(family.node, PORT));
        let request = tcp(&from, &to, SYN);
        assert_eq!(node.wire(&request).0, TC_NEXT, "nobody counts host ports yet");
        let settings = Settings { route_epoch: 1, host_ports: 1, ..Default::default() };
        node.objects.maps().settings.set(&0, &settings).unwrap();
        for request in [request, udp(&from, &to)] {
            let sent = node.wire_ok(&request);
            assert_eq!((sent.src, sent.dst), (request.src, backend.parse().unwrap()));
        }
        let inside = tcp(&family.at(family.other_pod, 1), &to, SYN).bytes();
        let (_, frame) = node.raw("from_container", node.other_pod, &inside);
        assert_eq!(Packet::parse(&frame).dst, backend.parse().unwrap());
        let elsewhere = tcp(&from, &family.at(family.remote, PORT), SYN);
        assert_eq!(node.wire(&elsewhere), (TC_NEXT, elsewhere.bytes()));
    }
}

#[test]
fn what_is_nobodys_passes_untouched() {
    for family in FAMILIES {
        let node = Node::new();
        for packet in [
            tcp(&family.at(family.client, 40001), &family.at(family.node, 22), SYN),
            udp(&family.at(family.client, 40001), &family.at(family.node, NODE_PORT)),
            tcp(&family.at(family.client, 40001), &family.at(family.remote, 80), ACK),
        ] {
            let (action, frame) = node.wire(&packet);
            assert_eq!((action, frame), (TC_NEXT, packet.bytes()));
        }
        assert_eq!(flows(&node), (0, 0));
    }
}
