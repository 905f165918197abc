// SPDX-License-Identifier: Apache-2.0
//! The next hop changes under an established flow.

use super::xdp::{XDP_PASS, XDP_TX, answer, driver, established};
use crate::support::node::{FAMILIES, Family, Node};
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN, tcp};

/// How the way to the router changes: its own address, or the router.
#[derive(Clone, Copy, Debug)]
enum Change {
    Neighbour,
    Route,
}

const NEW_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfd];

impl Change {
    const ALL: [Self; 2] = [Self::Neighbour, Self::Route];

    fn make(self, node: &Node, family: Family) {
        let (router, other, of) = if family.v6 {
            ("fd09::fe", "fd09::fd", "-6")
        } else {
            ("10.9.0.254", "10.9.0.253", "-4")
        };
        let neighbour = |ip: &str| {
            let mac = "02:00:00:00:00:fd";
            node.ns.ip(&format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent"));
        };
        match self {
            Self::Neighbour => neighbour(router),
            Self::Route => {
                neighbour(other);
                node.ns.ip(&format!("{of} route replace default via {other}"));
            }
        }
    }
}

/// Where `send` sends its packet, whose own destination is the node: a tick's first packet is left
/// to the kernel's neighbour code, one of three is not.
#[track_caller]
fn hop(send: impl Fn() -> Packet) -> [u8; 6] {
    let node = [2, 0, 0, 0, 0, 1];
    let hop = (0..3).map(|_| send().dmac).find(|mac| *mac != node);
    hop.expect("always left to the kernel's neighbour code")
}

/// What the driver hook makes of `frame`; what it does not finish goes up.
#[track_caller]
fn driven(node: &Node, frame: &[u8]) -> Packet {
    let (action, after) = driver(node, frame);
    if action == XDP_TX {
        return Packet::parse(&after);
    }
    assert_eq!(action, XDP_PASS);
    node.wire_ok(&Packet::parse(frame))
}

/// Runs `check` for each change and family, with both directions of established flows.
fn for_each(check: impl Fn(&Node, Family, Change, &[Packet])) {
    for change in Change::ALL {
        let node = Node::new();
        for family in FAMILIES {
            let mut packets = Vec::new();
            for proto in [TCP, UDP] {
                let (request, sent) = established(&node, family, proto);
                packets.extend([answer(&sent, request.flags), request]);
            }
            check(&node, family, change, &packets);
        }
    }
}

#[test]
fn a_moved_epoch_changes_the_very_next_packet() {
    for_each(|node, family, change, packets| {
        for packet in packets {
            assert_ne!(hop(|| node.wire_ok(packet)), NEW_MAC);
        }
        change.make(node, family);
        node.objects.maps().move_route_epoch().unwrap();
        for packet in packets {
            assert_eq!(hop(|| node.wire_ok(packet)), NEW_MAC, "{change:?}, {packet:?}");
        }
    });
}

#[test]
fn without_a_moved_epoch_the_next_tick_changes_it() {
    for_each(|node, family, change, packets| {
        change.make(node, family);
        node.let_pass(1);
        for packet in packets {
            assert_eq!(hop(|| node.wire_ok(packet)), NEW_MAC, "{change:?}, {packet:?}");
        }
    });
}

#[test]
fn the_driver_hook_follows_a_moved_epoch_at_once() {
    for_each(|node, family, change, packets| {
        let frames = packets.iter().map(Packet::bytes).collect::<Vec<_>>();
        for frame in &frames {
            assert_ne!(hop(|| driven(node, frame)), NEW_MAC);
        }
        change.make(node, family);
        node.objects.maps().move_route_epoch().unwrap();
        for frame in &frames {
            // Whoever sends it, tc or the driver hook, which goes on by itself then.
            assert_eq!(hop(|| driven(node, frame)), NEW_MAC, "{change:?}");
            assert_eq!(super::xdp::forwarded(node, frame)[..6], NEW_MAC, "{change:?}");
        }
    });
}

#[test]
fn the_driver_hook_follows_within_a_tick_without_one() {
    for_each(|node, family, change, packets| {
        let frames = packets.iter().map(Packet::bytes).collect::<Vec<_>>();
        change.make(node, family);
        node.let_pass(1);
        for frame in &frames {
            assert_eq!(hop(|| driven(node, frame)), NEW_MAC, "{change:?}");
            assert_eq!(super::xdp::forwarded(node, frame)[..6], NEW_MAC, "{change:?}");
        }
    });
}

#[test]
fn a_pods_flow_follows_too() {
    for family in FAMILIES {
        for (change, moved) in [(Change::Neighbour, true), (Change::Route, false)] {
            let node = Node::new();
            let vip = family.at(family.vip, 80);
            let backend = family.at(family.remote, 8080);
            let _service = node.objects.serve(Frontend::cluster_ip(&vip, TCP), &[&backend]);
            let syn = tcp(&family.at(family.pod, 40001), &vip, SYN);
            let sent = node.leave_ok(&syn);
            node.wire_ok(&sent.answer(SYN | ACK));
            let data = Packet { flags: ACK, ..syn };
            assert_ne!(hop(|| node.leave_ok(&data)), NEW_MAC);
            change.make(&node, family);
            if moved {
                node.objects.maps().move_route_epoch().unwrap();
            } else {
                node.let_pass(1);
            }
            assert_eq!(hop(|| node.leave_ok(&data)), NEW_MAC, "{change:?}");
        }
    }
}
