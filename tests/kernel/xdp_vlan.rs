// SPDX-License-Identifier: Apache-2.0
//! VLAN tags: the driver hook reads them on the device below, tc has the VLAN's own device.
//!
//! One-packet tests need no device of a VLAN: any other one stands for it.

use culvert::abi::XdpVlanKey;

use super::host::{flows, node_port, request};
use super::xdp::{XDP_PASS, XDP_TX, answer, established};
use crate::support::node::{FAMILIES, Node, ROUTER_MAC, TC_DROP, TC_NEXT, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{ACK, Packet, SYN};

const CUSTOMER: u32 = 0x8100_0000;
const SERVICE: u32 = 0x88a8_0000;

/// The tags as they are on the wire, and as the map has them.
type Tags = (&'static [u8], u32, u32);

const TAGS: [Tags; 4] = [
    (&[0x81, 0, 0, 100], CUSTOMER | 100, 0),
    (&[0x88, 0xa8, 0, 100], SERVICE | 100, 0),
    (&[0x88, 0xa8, 0, 7, 0x81, 0, 0x0f, 0xff], SERVICE | 7, CUSTOMER | 0xfff),
    // Priority and drop eligibility say nothing about which VLAN it is.
    (&[0x81, 0, 0xf0, 100], CUSTOMER | 100, 0),
];

fn tagged(tags: &[u8], frame: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

/// The tagged frame comes in on the device below.
fn driver(node: &Node, frame: &[u8]) -> (u32, Vec<u8>) {
    node.ns.run(|| node.xdp_inside(node.other_pod, frame))
}

/// The uplink is the device of the VLAN, the other pod's device lies below it.
fn add(node: &Node, (_, outer, inner): Tags) {
    let key = XdpVlanKey { parent: node.other_pod, outer, inner };
    node.objects.maps().xdp_vlans.set(&key, &node.uplink).unwrap();
}

/// As [`super::xdp::forwarded`], with tags.
#[track_caller]
fn forwarded(node: &Node, tags: &[u8], frame: &[u8]) -> Vec<u8> {
    for _ in 0..3 {
        let (action, after) = driver(node, &tagged(tags, frame));
        if action == XDP_TX {
            return after;
        }
        assert_eq!((action, after), (XDP_PASS, tagged(tags, frame)));
        assert_eq!(node.raw("from_netdev", node.uplink, frame).0, TC_REDIRECT);
    }
    panic!("always passed up: {:?}", node.outcomes());
}

#[test]
fn tags_are_read_and_kept_both_ways() {
    for family in FAMILIES {
        for (proto, tags) in [(TCP, TAGS[0]), (TCP, TAGS[2]), (UDP, TAGS[1]), (UDP, TAGS[3])] {
            let node = Node::new();
            add(&node, tags);
            let (request, sent) = established(&node, family, proto);
            let after = forwarded(&node, tags.0, &request.bytes());
            assert_eq!(after, tagged(tags.0, &sent.bytes()), "{tags:x?}");

            let answer = Packet { ttl: 63, ..answer(&sent, request.flags) };
            let after = forwarded(&node, tags.0, &answer.bytes());
            let reply = request.answer(request.flags);
            let reply = Packet { dmac: ROUTER_MAC, smac: answer.dmac, ttl: 62, ..reply };
            assert_eq!(after, tagged(tags.0, &reply.bytes()), "{tags:x?}");
        }
    }
}

#[test]
fn the_first_packet_of_a_vlan_opens_its_flow() {
    for family in FAMILIES {
        let node = Node::new();
        add(&node, TAGS[2]);
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let request = request(family, TCP);
        let (action, after) = driver(&node, &tagged(TAGS[2].0, &request.bytes()));
        assert_eq!(action, XDP_TX, "{:?}", node.outcomes());
        assert_eq!(&after[12..20], TAGS[2].0);
        let sent = Packet::parse(&[&after[..12], &after[20..]].concat());
        assert_eq!((sent.dst, sent.dmac), (backend.parse().unwrap(), ROUTER_MAC));
        // The flow is the VLAN device's own: its answer is at home there in tc.
        let reply = node.wire_ok(&answer(&sent, SYN | ACK));
        assert_eq!((reply.src, reply.dst), (request.dst, request.src));
    }
}

#[test]
fn other_vlans_go_up_untouched() {
    for family in FAMILIES {
        let node = Node::new();
        let (known, elsewhere) = (TAGS[0], TAGS[2]);
        add(&node, known);
        let key = XdpVlanKey { parent: node.other_pod, outer: elsewhere.1, inner: elsewhere.2 };
        node.objects.maps().xdp_vlans.set(&key, &node.pod).unwrap();
        let (packet, _) = established(&node, family, TCP);
        let frame = packet.bytes();
        let first = request(family, TCP);
        let first = Packet { src: family.at(family.client, 41234).parse().unwrap(), ..first };
        let before = flows(&node);
        for (what, tags) in [
            ("another VLAN", &[0x81, 0, 0, 101][..]),
            ("another kind of tag", &[0x88, 0xa8, 0, 100]),
            ("a second tag", &[0x81, 0, 0, 100, 0x81, 0, 0, 1]),
            ("the priority alone", &[0x81, 0, 0, 0]),
            ("three tags", &[0x81, 0, 0, 100, 0x81, 0, 0, 1, 0x81, 0, 0, 2]),
            ("that of a device which the way does not lead out of", elsewhere.0),
            ("none", &[]),
        ] {
            for frame in [tagged(tags, &frame), tagged(tags, &first.bytes())] {
                forwarded(&node, known.0, &packet.bytes());
                assert_eq!(driver(&node, &frame), (XDP_PASS, frame), "{what}");
            }
        }
        // Cut off behind a tag.
        let cut = tagged(known.0, &frame)[..18].to_vec();
        assert_eq!(driver(&node, &cut), (XDP_PASS, cut));
        assert_eq!(flows(&node), before, "nothing was opened");
        // On another device below, the same tag is another VLAN.
        let other = tagged(known.0, &frame);
        assert_eq!(node.ns.run(|| node.xdp_inside(node.pod, &other)), (XDP_PASS, other));
    }
}

#[test]
fn tc_leaves_tagged_frames_to_the_device_of_their_vlan() {
    for family in FAMILIES {
        let node = Node::new();
        let backend = family.at(family.remote, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        for (tags, ..) in TAGS {
            let frame = tagged(tags, &request(family, TCP).bytes());
            assert_eq!(node.raw("from_netdev", node.uplink, &frame), (TC_NEXT, frame.clone()));
            assert_eq!(node.raw("to_netdev", node.uplink, &frame).0, TC_NEXT);
            let (verdict, _) = node.raw("from_container", node.pod, &frame);
            assert_eq!(verdict, TC_DROP, "a pod's tag would leave by the uplink with it");
        }
        assert_eq!(flows(&node), (0, 0));
    }
}
