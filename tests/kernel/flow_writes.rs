// SPDX-License-Identifier: Apache-2.0
//! Packets of an established flow write nothing to its entries within a tick: other CPUs read them.

use std::collections::BTreeMap;

use culvert::abi::{DsrDispatch, Flow, FlowKey};

use super::dsr::{request as to_vip, serve};
use super::dsr_end::dispatched;
use super::dsr_ipip;
use super::host::{node_port, request};
use super::xdp::{XDP_PASS, answer, driver, established};
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Node, TC_NEXT, TC_REDIRECT};
use crate::support::objects::{Frontend, SCTP, TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN, tcp, udp};

fn entries(node: &Node) -> BTreeMap<FlowKey, Flow> {
    let maps = node.objects.maps();
    [&maps.flows, &maps.flows_new].iter().flat_map(|map| map.entries().unwrap()).collect()
}

/// Puts in the entries what is true and no program would write: a store of the same value shows.
fn disguise(node: &Node) {
    let maps = node.objects.maps();
    for map in [&maps.flows, &maps.flows_new] {
        for (key, mut flow) in map.entries().unwrap() {
            for truth in [&mut flow.told, &mut flow.replied] {
                *truth = u8::from(*truth != 0) * 2;
            }
            map.set(&key, &flow).unwrap();
        }
    }
}

/// What `send` lets in, packets of flows that are established, changes no entry.
#[track_caller]
fn assert_unwritten(node: &Node, what: &str, send: impl Fn()) {
    let seen = |entries: &BTreeMap<FlowKey, Flow>| -> Vec<u32> {
        entries.values().map(|flow| flow.last_seen).collect()
    };
    for _ in 0..5 {
        // The first of a tick writes, in each direction.
        send();
        let first = entries(node);
        assert!(!first.is_empty(), "{what}: no flow");
        send();
        disguise(node);
        let before = entries(node);
        (0..3).for_each(|_| send());
        let after = entries(node);
        if seen(&first) == seen(&after) {
            assert_eq!(after, before, "{what}");
            return;
        }
    }
    panic!("{what}: each try met a new tick");
}

#[track_caller]
fn redirected(node: &Node, program: &str, ifindex: u32, frame: &[u8]) {
    let (action, _) = node.raw(program, ifindex, frame);
    assert_eq!(action, TC_REDIRECT, "{program}: {:?}", node.outcomes());
}

#[test]
fn from_the_wire_and_back() {
    for local in [false, true] {
        let node = Node::new();
        for family in FAMILIES {
            for proto in [TCP, UDP] {
                let backend = family.at(if local { family.pod } else { family.remote }, 8080);
                let _service = node.objects.serve(node_port(family, proto), &[&backend]);
                let request = request(family, proto);
                let sent = node.wire_ok(&request);
                let data = Packet { flags: ACK, ..request };
                let answer = sent.answer(ACK);
                assert_unwritten(&node, &format!("{backend} of {proto}"), || {
                    node.wire_ok(&data);
                    if local {
                        node.leave_ok(&answer)
                    } else {
                        node.wire_ok(&answer)
                    };
                });
            }
        }
    }
}

#[test]
fn from_a_pod_to_a_service() {
    for local in [false, true] {
        let node = Node::new();
        for family in FAMILIES {
            for proto in [TCP, UDP] {
                let vip = family.at(family.vip, 80);
                let backend = family.at(if local { family.other_pod } else { family.remote }, 8080);
                let _service = node.objects.serve(Frontend::cluster_ip(&vip, proto), &[&backend]);
                let client = family.at(family.pod, 40001);
                let request =
                    if proto == TCP { tcp(&client, &vip, SYN) } else { udp(&client, &vip) };
                let answer = node.leave_ok(&request).answer(ACK).bytes();
                let data = Packet { flags: ACK, ..request };
                let (program, device) = if local {
                    ("from_container", node.other_pod)
                } else {
                    ("from_netdev", node.uplink)
                };
                assert_unwritten(&node, &format!("{backend} of {proto}"), || {
                    node.leave_ok(&data);
                    redirected(&node, program, device, &answer);
                });
            }
        }
    }
}

#[test]
fn to_a_server_of_the_hosts_own() {
    let node = Node::new();
    for family in FAMILIES {
        let backend = family.at(family.node, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let request = request(family, TCP);
        let (_, frame) = node.wire(&request);
        let answer = Packet::parse(&frame).answer(ACK).bytes();
        let data = Packet { flags: ACK, ..request };
        assert_unwritten(&node, &backend, || {
            assert_eq!(node.wire(&data).0, TC_NEXT);
            let (action, frame) = node.raw("to_netdev", node.uplink, &answer);
            assert_eq!((action, Packet::parse(&frame).dst), (TC_NEXT, data.src));
        });
    }
}

#[test]
fn dispatched_to_another_node() {
    for dispatch in [DsrDispatch::Option, DsrDispatch::Ipip, DsrDispatch::Geneve] {
        let node = dsr_ipip::node(dispatch);
        for family in FAMILIES {
            for proto in [TCP, UDP, SCTP] {
                let backend = family.at(family.remote, 8080);
                let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
                let request = to_vip(family, proto, 80);
                redirected(&node, "from_netdev", node.uplink, &request.bytes());
                let data = Packet { flags: ACK, ..request }.bytes();
                assert_unwritten(&node, &format!("{dispatch:?} of {proto}, tc"), || {
                    redirected(&node, "from_netdev", node.uplink, &data);
                });
                assert_unwritten(&node, &format!("{dispatch:?} of {proto}, driver"), || {
                    through_driver(&node, &data);
                });
            }
        }
    }
}

#[test]
fn dispatched_by_another_node() {
    let node = dsr_ipip::node(DsrDispatch::Option);
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let (request, mark) = dispatched(family, &to_vip(family, proto, 80), 40001);
            let data = Packet { flags: ACK, ..request };
            let frame = dsr::with_option(&data, &dsr::option(&KEY, &data, &mark));
            let answer = data.answer(ACK);
            assert_unwritten(&node, &format!("protocol {proto}"), || {
                redirected(&node, "from_netdev", node.uplink, &frame);
                node.leave_ok(&answer);
            });
        }
    }
}

#[test]
fn through_the_driver_hook() {
    let node = Node::new();
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let (request, sent) = established(&node, family, proto);
            let frames = [request.bytes(), answer(&sent, request.flags).bytes()];
            assert_unwritten(&node, &format!("protocol {proto}"), || {
                frames.iter().for_each(|frame| through_driver(&node, frame));
            });
        }
    }
}

/// What the driver hook does not finish goes up.
#[track_caller]
fn through_driver(node: &Node, frame: &[u8]) {
    if driver(node, frame).0 == XDP_PASS {
        redirected(node, "from_netdev", node.uplink, frame);
    }
}
