// SPDX-License-Identifier: Apache-2.0
//! A flow table that refuses: what can do without an entry is forwarded, all else is dropped.

use culvert::abi::{DsrDispatch, Outcome};
use libbpf_rs::MapType;

use super::dsr::{marked, request as to_vip, serve};
use super::host::{NODE_PORT, flows, node_port, request};
use super::xdp::{XDP_PASS, driver};
use crate::support::dsr::{KEY, encapsulate};
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_REDIRECT, V4, V6, ip};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN, tcp};

/// A node whose `flows_new` evicts nothing and has `places`, all but `free` of them taken.
pub(super) fn node(dispatch: DsrDispatch, free: u32) -> Node {
    const TAKEN: u32 = 2;
    let node = Node::with_options(|options| {
        options.config.dsr_dispatch = dispatch as u8;
        options.map_kinds.insert("flows_new".to_owned(), MapType::Hash);
        options.map_sizes.insert("flows_new".to_owned(), TAKEN + free);
    });
    let maps = node.objects.maps();
    maps.set_dsr_keys([KEY, [0; 16]]).unwrap();
    maps.set_dsr_sources([ip(V4.node), ip(V6.node)]).unwrap();
    let frontend = Frontend { port: NODE_PORT + 1, ..node_port(V4, UDP) };
    let _service = node.objects.serve(frontend, &[&V4.at(V4.remote, 53)]);
    let mut first = request(V4, UDP);
    first.dst.set_port(NODE_PORT + 1);
    node.wire_ok(&first);
    assert_eq!(flows(&node), (0, TAKEN as usize));
    node
}

#[test]
fn what_needs_its_entries_is_dropped_and_leaves_none() {
    // Room for neither entry, and for one of the two.
    for free in [0, 1] {
        let node = node(DsrDispatch::Off, free);
        let mut dropped = 0;
        for family in FAMILIES {
            for proto in [TCP, UDP] {
                for backend in [family.remote, family.pod, family.node] {
                    let backend = family.at(backend, 8080);
                    let _service = node.objects.serve(node_port(family, proto), &[&backend]);
                    let frame = request(family, proto).bytes();
                    assert_eq!(driver(&node, &frame), (XDP_PASS, frame), "{backend}");
                    assert_eq!(node.wire(&request(family, proto)).0, TC_DROP, "{backend}");
                    dropped += 1;
                    assert_eq!(node.counted(Outcome::DropFlowsFull), dropped, "{backend}");
                    assert_eq!(flows(&node), (0, 2), "{backend}");
                }
            }
            let vip = family.at(family.vip, 80);
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(Frontend::cluster_ip(&vip, TCP), &[&backend]);
            let from_pod = tcp(&family.at(family.pod, 40001), &vip, SYN);
            assert_eq!(node.leave(&from_pod).0, TC_DROP);
            dropped += 1;
            assert_eq!(node.counted(Outcome::DropFlowsFull), dropped);
        }
    }
}

#[test]
fn a_place_that_is_free_again_is_used() {
    let node = node(DsrDispatch::Off, 0);
    let _service = node.objects.serve(node_port(V4, TCP), &[&V4.at(V4.remote, 8080)]);
    assert_eq!(node.wire(&request(V4, TCP)).0, TC_DROP);
    let flows_new = &node.objects.maps().flows_new;
    for (key, _) in flows_new.entries().unwrap() {
        flows_new.remove(&key).unwrap();
    }
    node.wire_ok(&request(V4, TCP));
    assert_eq!(flows(&node), (0, 2));
}

/// Eight backends of one service with direct server return.
fn backends(family: Family) -> Vec<String> {
    (0..8).map(|n| family.at(family.remote, 8080 + n)).collect()
}

#[test]
fn direct_server_return_goes_on_without_an_entry() {
    for free in [0, 1] {
        let node = node(DsrDispatch::Option, free);
        for family in FAMILIES {
            for proto in [TCP, UDP] {
                let backends = backends(family);
                let names: Vec<&str> = backends.iter().map(String::as_str).collect();
                let _service = serve(&node, &family.at(family.vip, 80), proto, &names);
                for port in 40001..40009 {
                    let mut syn = to_vip(family, proto, 80);
                    syn.src.set_port(port);
                    let (first, mark) = marked(&node, &syn);
                    assert_eq!((first.src, mark.client_port), (syn.src, Some(port)));
                    // Without an entry each is the first, and meets the same backend.
                    for _ in 0..2 {
                        let (again, _) = marked(&node, &Packet { flags: ACK, ..syn.clone() });
                        assert_eq!((again.src, again.dst), (first.src, first.dst));
                    }
                }
                assert_eq!(flows(&node), (0, 2));
            }
        }
        assert_eq!(node.counted(Outcome::DropFlowsFull), 0);
    }
}

#[test]
fn so_does_what_is_encapsulated() {
    let node = node(DsrDispatch::Ipip, 0);
    for family in FAMILIES {
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let (from, to) = (family.node.parse().unwrap(), family.remote.parse().unwrap());
        for flags in [SYN, ACK] {
            let packet = Packet { flags, ..to_vip(family, TCP, 80) };
            let (action, frame) = node.wire(&packet);
            assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
            assert_eq!(frame[14..], encapsulate(&packet.bytes(), from, to, 8080)[14..]);
        }
        assert_eq!(flows(&node), (0, 2));
    }
}
