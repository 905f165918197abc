// SPDX-License-Identifier: Apache-2.0
//! SCTP through services, one packet at a time: its CRC32c covers the ports that change.

use culvert::abi::{Outcome, ServiceKind, TargetStatus};

use super::host::{flows, load_balancer, node_port};
use super::xdp::{XDP_PASS, driver};
use crate::support::node::{FAMILIES, Node, TC_DROP, TC_REDIRECT};
use crate::support::objects::{Frontend, SCTP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::pieces::cut;
use crate::support::packet::{Packet, crc32c, sctp};

/// Lengths of what follows the common header: none, odd, and about the MTU.
const LENGTHS: [usize; 6] = [0, 1, 16, 333, 1024, 1420];

#[test]
fn the_crc_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn ports_change_both_ways_and_the_crc_stays_right() {
    for family in FAMILIES {
        for backend in [family.remote, family.pod] {
            let node = Node::new();
            let local = backend == family.pod;
            let backend = family.at(backend, 9899);
            let _service = node.objects.serve(node_port(family, SCTP), &[&backend]);
            let front = family.at(family.node, super::host::NODE_PORT);
            for length in LENGTHS {
                let payload: Vec<u8> = (0..length).map(|n| (n * 31) as u8).collect();
                let request = sctp(&family.at(family.client, 40001), &front);
                let request = Packet { payload, ..request };
                let sent = node.wire_ok(&request);
                assert_eq!((sent.dst, &sent.payload), (backend.parse().unwrap(), &request.payload));
                let answer = Packet { dmac: request.dmac, ..sent.answer(0) };
                let reply = if local { node.leave_ok(&answer) } else { node.wire_ok(&answer) };
                assert_eq!((reply.src, reply.dst), (request.dst, request.src));
                assert_eq!(reply.payload, request.payload);
            }
        }
    }
}

#[test]
fn a_taken_client_port_is_replaced() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.pod, 9899);
        for port in [80, 81] {
            let frontend = Frontend { proto: SCTP, ..load_balancer(family, port) };
            node.objects.serve(frontend, &[&backend]);
        }
        let requests = [80, 81]
            .map(|port| sctp(&family.at(family.client, 40001), &family.at(family.vip, port)));
        let sent = requests.each_ref().map(|request| node.wire_ok(request));
        assert_ne!(sent[0].src, sent[1].src);
        for (request, sent) in requests.iter().zip(&sent) {
            let reply = node.leave_ok(&sent.answer(0));
            assert_eq!((reply.src, reply.dst), (request.dst, request.src));
        }
    }
}

#[test]
fn padding_behind_the_packet_is_not_part_of_the_crc() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 9899);
        let _service = node.objects.serve(node_port(family, SCTP), &[&backend]);
        let front = family.at(family.node, super::host::NODE_PORT);
        let request = Packet { payload: vec![], ..sctp(&family.at(family.client, 1), &front) };
        let mut frame = request.bytes();
        let length = frame.len();
        frame.extend([0; 14]);
        let (action, mut sent) = node.raw("from_netdev", node.uplink, &frame);
        assert_eq!(action, TC_REDIRECT);
        sent.truncate(length);
        assert_eq!(Packet::parse(&sent).dst, backend.parse().unwrap());
    }
}

#[test]
fn a_crc_that_is_left_to_the_device_stays_unset() {
    for family in FAMILIES {
        let node = Node::new();
        let vip = family.at(family.vip, 80);
        let frontend = Frontend::cluster_ip(&vip, SCTP);
        let _service = node.objects.serve(frontend, &[&family.at(family.remote, 9899)]);
        let mut frame = sctp(&family.at(family.pod, 40001), &vip).bytes();
        let crc = 14 + if family.v6 { 40 } else { 20 } + 8;
        frame[crc..crc + 4].fill(0);
        let (action, sent) = node.raw("from_container", node.pod, &frame);
        assert_eq!((action, &sent[crc..crc + 4]), (TC_REDIRECT, &[0; 4][..]));
        assert_eq!(sent[crc - 6..crc - 4], 9899_u16.to_be_bytes());
    }
}

#[test]
fn nobodys_service_refuses_it_and_an_association_outlives_its_endpoints_place() {
    for family in FAMILIES {
        let node = Node::new();
        let vip = family.at(family.vip, 80);
        let frontend = Frontend { proto: SCTP, ..load_balancer(family, 80) };
        assert_eq!(frontend.kind, ServiceKind::LoadBalancer);
        let service = node.objects.serve(frontend, &[]);
        let request = sctp(&family.at(family.client, 40001), &vip);
        let (action, frame) = node.wire(&request);
        let error = IcmpError::parse(&frame);
        assert_eq!((action, node.counted(Outcome::Rejected)), (TC_REDIRECT, 1));
        assert_eq!((error.kind, error.code), if family.v6 { (1, 4) } else { (3, 3) });
        assert_eq!(error.quoted, (request.src, request.dst));

        let [one, other] = ["1", "2"].map(|host| {
            let prefix = if family.v6 { "fd00:2::" } else { "10.244.2." };
            node.objects.target(&family.at(&format!("{prefix}{host}"), 9899))
        });
        service.set_backends(&[one]);
        let sent = node.wire_ok(&request);
        service.set_backends(&[other]);
        node.objects.set_target(&one, TargetStatus::Gone);
        // Nobody has answered yet: it is moved. The answered one stays.
        let moved = node.wire_ok(&request);
        assert_ne!(moved.dst, sent.dst);
        node.wire_ok(&moved.answer(0));
        let third = node.objects.target(&family.at(family.pod, 9899));
        service.set_backends(&[third]);
        node.objects.set_target(&other, TargetStatus::Gone);
        assert_eq!(node.wire_ok(&request).dst, moved.dst);
    }
}

#[test]
fn an_error_about_it_reaches_its_sender() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 9899);
        let _service = node.objects.serve(node_port(family, SCTP), &[&backend]);
        let front = family.at(family.node, super::host::NODE_PORT);
        let request = sctp(&family.at(family.client, 40001), &front);
        let sent = node.wire_ok(&request);
        let (kind, code) = if family.v6 { (1, 4) } else { (3, 3) };
        let error = IcmpError::frame(family.remote, &sent, kind, code);
        let (action, frame) = node.raw("from_netdev", node.uplink, &error);
        let got = IcmpError::parse(&frame);
        assert_eq!((action, got.quoted), (TC_REDIRECT, (request.src, request.dst)));
    }
}

#[test]
fn a_fragment_keeps_its_ports_or_is_dropped() {
    for family in FAMILIES {
        let node = Node::new();
        let front = family.at(family.node, super::host::NODE_PORT);
        let backend = family.at(family.remote, 9899);
        let _service = node.objects.serve(node_port(family, SCTP), &[&backend]);
        let request = sctp(&family.at(family.client, 40001), &front);
        let request = Packet { payload: vec![3; 2000], ..request };
        let first = &cut(&request.bytes(), 1000)[0];
        assert_eq!(node.raw("from_netdev", node.uplink, first).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropProtocol), 1);
        assert_eq!(flows(&node), (0, 0), "no flow of a port that nobody ever saw");
    }
}

#[test]
fn what_is_cut_short_opens_nothing() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 9899);
        let _service = node.objects.serve(node_port(family, SCTP), &[&backend]);
        let front = family.at(family.node, super::host::NODE_PORT);
        let request = sctp(&family.at(family.client, 40001), &front);
        let cut = |packet: &Packet| packet.bytes()[..packet.bytes().len() - 1].to_vec();
        assert_eq!(driver(&node, &cut(&request)), (XDP_PASS, cut(&request)));
        assert_eq!(flows(&node), (0, 0));
        assert_eq!(node.raw("from_netdev", node.uplink, &cut(&request)).0, TC_DROP);
        assert_eq!((node.counted(Outcome::DropRewrite), flows(&node)), (1, (0, 0)));

        // The host's own, which gets another port beside the flow of a service.
        let taken = node.wire_ok(&request);
        let host = sctp(&taken.src.to_string(), &backend);
        assert_eq!(node.raw("to_netdev", node.uplink, &cut(&host)).0, TC_DROP);
        assert_eq!((node.counted(Outcome::DropRewrite), flows(&node)), (2, (0, 2)));
        assert_eq!(node.wire_ok(&taken.answer(0)).dst, request.src);
    }
}
