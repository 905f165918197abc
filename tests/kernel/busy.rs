// SPDX-License-Identifier: Apache-2.0
//! -EBUSY from an update, as kernels before 6.15 may say while another CPU holds the bucket's lock:
//! the real program, compiled with an update that refuses when it is told to.

use culvert::abi::{DsrDispatch, Outcome};
use libbpf_rs::Object;

use super::dsr;
use super::host::{flows, node_port, request};
use crate::support::dsr::KEY;
use crate::support::node::{FAMILIES, Node, TC_DROP, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::Packet;
use crate::support::variant::{self, exchange};

fn load(node: &Node, dispatch: DsrDispatch) -> Object {
    variant::load(node, "tests/kernel/busy.bpf.c", &[], "from_netdev", dispatch)
}

/// Sends `packet` from the wire while the updates in `refused` fail, the first of which is bit 0.
fn send(node: &Node, object: &Object, packet: &Packet, refused: u32) -> (u32, Vec<u8>) {
    exchange(object, "refused", refused);
    let sent = node.ns.run(|| {
        let program = object.progs_mut().find(|each| each.name() == "from_netdev").unwrap();
        Node::raw_of(&program, node.uplink, &packet.bytes())
    });
    assert_eq!(exchange(object, "refused", 0), 0, "not all were tried");
    sent
}

/// Which updates of a first packet: those of the answers' entry are the first.
const ONE: u32 = 0b1;
const OTHER: u32 = 0b10;
const BOTH_ONCE: u32 = 0b101;
const ONE_TWICE: u32 = 0b11;
const OTHER_TWICE: u32 = 0b110;
const BOTH_TWICE: u32 = 0b1111;

#[test]
fn what_is_refused_once_is_stored() {
    let direct = dsr::node();
    for (node, dispatch) in [(Node::new(), DsrDispatch::Off), (direct, DsrDispatch::Option)] {
        let object = load(&node, dispatch);
        for family in FAMILIES {
            let backend = family.at(family.remote, 8080);
            let (_service, request) = if dispatch == DsrDispatch::Off {
                (node.objects.serve(node_port(family, TCP), &[&backend]), request(family, TCP))
            } else {
                let vip = family.at(family.vip, 80);
                (dsr::serve(&node, &vip, TCP, &[&backend]), dsr::request(family, TCP, 80))
            };
            for refused in [ONE, OTHER, BOTH_ONCE] {
                assert_eq!(send(&node, &object, &request, refused).0, TC_REDIRECT);
                assert_eq!(flows(&node), (0, 2), "{refused:b}");
                node.objects.forget_flows();
            }
        }
    }
}

#[test]
fn snat_without_an_entry_is_dropped_and_counted() {
    let node = Node::new();
    let object = load(&node, DsrDispatch::Off);
    let mut dropped = 0;
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(node_port(family, proto), &[&backend]);
            for refused in [ONE_TWICE, OTHER_TWICE] {
                let request = request(family, proto);
                assert_eq!(send(&node, &object, &request, refused).0, TC_DROP, "{refused:b}");
                dropped += 1;
                assert_eq!(node.counted(Outcome::DropFlowsFull), dropped);
                assert_eq!(flows(&node), (0, 0), "{refused:b}");
            }
        }
    }
}

#[test]
fn direct_return_goes_on_without_entries_to_the_same_backend() {
    let node = dsr::node();
    let object = load(&node, DsrDispatch::Option);
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let backends: Vec<_> = (0..8).map(|n| family.at(family.remote, 8080 + n)).collect();
            let backends: Vec<_> = backends.iter().map(String::as_str).collect();
            let _service = dsr::serve(&node, &family.at(family.vip, 80), proto, &backends);
            let request = dsr::request(family, proto, 80);
            let mut seen = Vec::new();
            for (refused, left) in [(BOTH_TWICE, 0), (OTHER_TWICE, 0), (ONE_TWICE, 1)] {
                let (action, frame) = send(&node, &object, &request, refused);
                assert_eq!(action, TC_REDIRECT, "{refused:b}: {:?}", node.outcomes());
                let (packet, mark) = crate::support::dsr::parse(&KEY, &frame);
                assert_eq!(packet.src, request.src, "{refused:b}");
                assert_eq!(mark.service, request.dst, "{refused:b}");
                assert_eq!(flows(&node), (0, left), "{refused:b}");
                seen.push(packet.dst);
            }
            assert!(seen.iter().all(|backend| *backend == seen[0]), "{seen:?}");
            // Each SYN puts back what is missing.
            if proto == TCP {
                assert_eq!(send(&node, &object, &request, 0).0, TC_REDIRECT);
                assert_eq!(flows(&node), (0, 2));
            }
            node.objects.forget_flows();
        }
    }
}
