// SPDX-License-Identifier: Apache-2.0
//! What is asked for is traced, and nothing else.

use culvert::abi::{EVENT_TRACE, Hook, Outcome};

use super::drop_events::Told;
use super::host::{node_port, request};
use crate::support::node::{Family, Node, V4};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN, tcp};

#[test]
fn what_is_traced_and_nothing_else() {
    let mut told = Told::new(Node::new());
    let family = V4;
    told.node.objects.serve(node_port(family, TCP), &[&family.at(family.remote, 8080)]);
    let plain = udp_between(family);
    let frames = [
        (Hook::FromNetdev, request(family, TCP), Outcome::Forwarded),
        (Hook::FromContainer, plain.clone(), Outcome::Forwarded),
        (Hook::ToContainer, plain.answer(0), Outcome::Local),
        (Hook::ToNetdev, plain.clone(), Outcome::Stack),
        (Hook::Xdp, plain.answer(0), Outcome::Stack),
    ];
    let send = |told: &Told, hook: Hook, packet: &Packet| {
        let node = &told.node;
        let device = if hook == Hook::FromContainer { node.pod } else { node.uplink };
        match hook {
            Hook::Xdp => node.ns.run(|| node.xdp_inside(device, &packet.bytes())),
            _ => node.raw(hook.name(), device, &packet.bytes()),
        };
    };
    for (hook, ..) in &frames {
        told.node.objects.maps().set_trace(1 << hook.number()).unwrap();
        for (each, packet, _) in &frames {
            send(&told, *each, packet);
        }
        let (_, packet, outcome) = frames.iter().find(|(each, ..)| each == hook).unwrap();
        let event = told.next();
        assert_eq!((event.r#type, u32::from(event.hook)), (EVENT_TRACE, hook.number()));
        assert_eq!(Outcome::from_number(event.outcome.into()), Some(*outcome), "{hook:?}");
        assert_eq!((event.saddr, event.daddr), (packet.src.ip().into(), packet.dst.ip().into()));
        assert_eq!((event.sport.get(), event.dport.get()), (packet.src.port(), packet.dst.port()));
        assert_eq!(event.proto, packet.proto);
    }
    // Of the others there was nothing between.
    told.node.objects.maps().set_trace(0).unwrap();
    for (hook, packet, _) in &frames {
        send(&told, *hook, packet);
    }
    let foreign = tcp(&family.at(family.other_pod, 1), &family.at(family.remote, 80), SYN);
    told.drops_packet("from_container", &foreign, Outcome::DropSpoofed);
}

fn udp_between(family: Family) -> Packet {
    let packet = tcp(&family.at(family.pod, 40001), &family.at(family.remote, 53), ACK);
    Packet { proto: UDP, flags: 0, ..packet }
}
