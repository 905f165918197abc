// SPDX-License-Identifier: Apache-2.0
//! How flows of bpf_host end: their backend leaves, they are closed or expire, or are evicted.

use culvert::abi::TargetStatus;

use super::host::{flows, handshake, node_port, request};
use crate::support::node::{Node, V4, ip};
use crate::support::objects::{Served, TCP, UDP};
use crate::support::packet::{ACK, FIN, Packet, RST, SYN};

fn remove(node: &Node, service: &Served<'_>, sent: &Packet) {
    let (gone, left): (Vec<_>, Vec<_>) =
        service.targets().into_iter().partition(|target| target.address == sent.dst);
    service.set_backends(&left);
    node.objects.set_target(&gone[0], TargetStatus::Gone);
}

#[test]
fn datagrams_leave_a_backend_that_is_gone_and_connections_stay() {
    let node = Node::new();
    let backends = [V4.at(V4.remote, 53), V4.at("10.244.2.6", 53)];
    let backends = backends.each_ref().map(String::as_str);
    for proto in [TCP, UDP] {
        let service = node.objects.serve(node_port(V4, proto), &backends);
        let request = request(V4, proto);
        let first = if proto == TCP { handshake(&node, &request) } else { node.wire_ok(&request) };
        remove(&node, &service, &first);
        let again = node.wire_ok(&Packet { flags: ACK, ..request });
        if proto == TCP {
            assert_eq!(again.dst, first.dst, "an established connection was moved");
        } else {
            assert_ne!(again.dst, first.dst, "a datagram went to a backend that is gone");
        }
    }
}

#[test]
fn a_reused_target_index_does_not_revive_a_flow() {
    let node = Node::new();
    let service = node.objects.serve(node_port(V4, UDP), &[&V4.at(V4.remote, 53)]);
    let request = request(V4, UDP);
    node.wire_ok(&request);
    let mut target = service.targets()[0];
    let other = node.objects.target(&V4.at("10.244.2.9", 53));
    service.set_backends(&[other]);
    target.epoch += 1;
    node.objects.set_target(&target, TargetStatus::Active);
    assert_eq!(node.wire_ok(&request).dst, other.address);
}

#[test]
fn a_syn_on_a_closed_connection_opens_a_new_one() {
    for close in [FIN | ACK, RST] {
        let node = Node::new();
        let service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
        let request = request(V4, TCP);
        let syn = handshake(&node, &request);
        let other = node.objects.target(&V4.at("10.244.2.9", 8080));
        service.set_backends(&[other]);
        assert_eq!(node.wire_ok(&request).dst, syn.dst, "a live connection was moved");
        node.wire_ok(&Packet { flags: close, ..request.clone() });
        node.wire_ok(&syn.answer(close));
        assert_eq!(node.wire_ok(&request).dst, other.address);
        assert_eq!(flows(&node), (0, 2));
    }
}

#[test]
fn an_expired_flow_is_a_miss() {
    let node = Node::new();
    let service = node.objects.serve(node_port(V4, UDP), &[&V4.at(V4.remote, 53)]);
    let request = request(V4, UDP);
    let sent = node.wire_ok(&request);
    node.wire_ok(&sent.answer(0));
    let other = node.objects.target(&V4.at("10.244.2.9", 53));
    service.set_backends(&[other]);
    assert_eq!(node.wire_ok(&request).dst, sent.dst);

    node.let_pass(1000);
    assert_eq!(node.wire_ok(&request).dst, other.address);
}

#[test]
fn a_flow_whose_partner_was_evicted_gets_it_back() {
    let node = Node::new();
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    let request = request(V4, TCP);
    let syn = node.wire_ok(&request);
    let maps = node.objects.maps();
    let entries = maps.flows_new.entries().unwrap();
    let answer = entries.iter().find(|(key, _)| key.saddr == ip(V4.remote)).unwrap();
    maps.flows_new.remove(&answer.0).unwrap();

    node.wire_ok(&request);
    let reply = node.wire_ok(&syn.answer(SYN | ACK));
    assert_eq!((reply.src, reply.dst), (request.dst, request.src));
}
