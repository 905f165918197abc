// SPDX-License-Identifier: Apache-2.0
//! A TTL, or hop limit, that ends at the node: whoever sent the packet is told, as by any router,
//! of the packet that it sent (RFC 1812 5.3.1, RFC 4443 3.3). What nobody translates is the stack's.

use culvert::abi::{Outcome, ServiceKind};

use crate::support::node::{FAMILIES, Family, Node};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, Packet, SYN, tcp, udp};

/// Who asks and who answers.
type Ends = fn(&Family) -> [&'static str; 2];

/// From where a packet comes: program and device.
type From = fn(&Node) -> (&'static str, u32);

const WIRE: From = |node| ("from_netdev", node.uplink);
const POD: From = |node| ("from_container", node.pod);

fn pass(node: &Node, from: From, packet: &Packet) -> Packet {
    let (program, device) = from(node);
    let (_, frame) = node.raw(program, device, &packet.bytes());
    Packet::parse(&frame)
}

/// `packet` ends here, and its sender learns of it as it sent it.
#[track_caller]
fn ends(node: &Node, family: Family, from: From, packet: &Packet, what: &str) {
    let before = node.counted(Outcome::DropTtl);
    let (program, device) = from(node);
    let packet = packet.clone().ttl(1);
    let (_, frame) = node.raw(program, device, &packet.bytes());
    let error = IcmpError::parse(&frame);
    let exceeded = if family.v6 { (3, 0) } else { (11, 0) };
    assert_eq!((error.kind, error.code), exceeded, "{what}");
    assert_eq!(error.quoted, (packet.src, packet.dst), "{what}");
    assert_eq!((error.src, error.dst), (packet.dst.ip(), packet.src.ip()), "{what}");
    assert_eq!(node.counted(Outcome::DropTtl), before + 1, "{what}");
}

#[test]
fn a_ttl_that_ends_here_is_told_to_whoever_sent_the_packet() {
    // The two, and from where each one's packets come.
    let cases: [(Ends, From, From); 3] = [
        (|family| [family.client, family.remote], WIRE, WIRE),
        (|family| [family.client, family.pod], WIRE, POD),
        (|family| [family.pod, family.remote], POD, WIRE),
    ];
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            for (ends_of, asking, answering) in cases {
                let [client, backend] = ends_of(&family);
                let what = format!("{client} to {backend}, protocol {proto}");
                let node = Node::new();
                let vip = family.at(family.vip, 80);
                let frontend = Frontend::cluster_ip(&vip, proto).kind(ServiceKind::LoadBalancer);
                let _service = node.objects.serve(frontend, &[&family.at(backend, 8080)]);
                let from = family.at(client, 40001);
                let request = if proto == TCP { tcp(&from, &vip, SYN) } else { udp(&from, &vip) };
                ends(&node, family, asking, &request, &format!("{what}: the first"));
                let sent = pass(&node, asking, &request);
                ends(&node, family, asking, &request, &format!("{what}: a later one"));
                let answer = sent.answer(SYN | ACK);
                ends(&node, family, answering, &answer, &format!("{what}: the answer"));
                let shown = pass(&node, answering, &answer);
                assert_eq!((shown.src, shown.dst), (request.dst, request.src), "{what}");
            }
        }
    }
}
