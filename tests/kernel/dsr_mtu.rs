// SPDX-License-Identifier: Apache-2.0
//! Direct server return and packet sizes: what dispatching adds must fit the egress device.

use std::net::IpAddr;

use culvert::abi::{DsrDispatch, Outcome, Uplink};

use super::dsr::{marked, node, request, serve};
use super::dsr_end::dispatched;
use super::dsr_ipip;
use super::xdp::{XDP_PASS, XDP_TX, driver};
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Family, Node, TC_REDIRECT, V4};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, Packet, SYN};

/// Of the test node's uplink, unless a test gives it another.
pub(super) const MTU: usize = 1500;

pub(super) const DISPATCHES: [DsrDispatch; 3] =
    [DsrDispatch::Option, DsrDispatch::Ipip, DsrDispatch::Geneve];

pub(super) const fn overhead(family: Family, dispatch: DsrDispatch) -> usize {
    match (dispatch, family.v6) {
        (DsrDispatch::Ipip, false) => 20,
        (DsrDispatch::Ipip, true) => 40,
        (DsrDispatch::Geneve, false) => 90,
        (DsrDispatch::Geneve, true) => 102,
        (_, false) => 16,
        (_, true) => 32,
    }
}

/// What the agent does when it hears of it, but for the epoch.
fn resize_uplink(node: &Node, mtu: usize) {
    node.ns.ip(&format!("link set eth0 mtu {mtu}"));
    let uplinks = &node.objects.maps().uplinks;
    let uplink = uplinks.get(&node.uplink).unwrap().unwrap();
    uplinks.set(&node.uplink, &Uplink { mtu: mtu as u32, ..uplink }).unwrap();
}

/// What `frame` must be: an answer to the client that names `mtu`.
#[track_caller]
pub(super) fn assert_told(family: Family, (action, frame): (u32, Vec<u8>), mtu: usize) {
    assert_eq!(action, TC_REDIRECT);
    let error = IcmpError::parse(&frame);
    assert_eq!((error.kind, error.code), if family.v6 { (2, 0) } else { (3, 4) });
    assert_eq!(error.dst, family.client.parse::<IpAddr>().unwrap());
    assert_eq!(usize::from(dsr::told_mtu(&frame)), mtu);
}

/// A datagram whose IP packet has `size` bytes.
fn datagram(family: Family, size: usize) -> Packet {
    let headers = if family.v6 { 48 } else { 28 };
    Packet { payload: vec![7; size - headers], ..request(family, UDP, 80) }
}

#[test]
fn what_does_not_fit_with_the_option_is_answered_with_the_mtu_that_does() {
    for family in FAMILIES {
        for dispatch in DISPATCHES {
            let node = dsr_ipip::node(dispatch);
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
            let fits = MTU - overhead(family, dispatch);

            assert_told(family, node.wire(&datagram(family, fits + 1)), fits);
            assert_eq!(node.counted(Outcome::DropTooBig), 1);

            let (action, frame) = node.wire(&datagram(family, fits));
            // What the Geneve device adds is not there yet.
            let inner = if dispatch == DsrDispatch::Geneve { fits } else { MTU };
            assert_eq!((action, frame.len()), (TC_REDIRECT, 14 + inner));
        }
    }
}

#[test]
fn only_what_must_tell_the_backends_node_has_to_leave_room() {
    for family in FAMILIES {
        let node = node();
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let syn = request(family, TCP, 80);
        marked(&node, &syn);
        marked(&node, &Packet { flags: ACK, ..syn.clone() });
        let headers = if family.v6 { 60 } else { 40 };
        let full = Packet { flags: ACK, payload: vec![7; MTU - headers], ..syn };
        for _ in 0..3 {
            let sent = node.wire_ok(&full);
            assert_eq!(sent.dst, backend.parse().unwrap());
        }
    }
}

#[test]
fn both_syns_announce_segments_that_leave_room() {
    for family in FAMILIES {
        for (padding, announced) in [(0, 1460), (1, 1460), (3, 9000), (0, 500)] {
            let headers = if family.v6 { 60 } else { 40 };
            let most = (MTU - headers - overhead(family, DsrDispatch::Option)) as u16;
            let node = node();
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
            let syn = request(family, TCP, 80);
            let frame = dsr::with_mss(&syn, padding, announced);
            let (_, out) = node.raw("from_netdev", node.uplink, &frame);
            let (sent, _) = dsr::parse(&KEY, &out);
            assert_eq!(dsr::mss(&sent, padding), announced.min(most));

            // The backend's node: what the server announces limits what comes through the LB node.
            let (packet, mark) = dispatched(family, &syn, 40001);
            let frame = dsr::with_option(&packet, &dsr::option(&KEY, &packet, &mark));
            assert_eq!(node.raw("from_netdev", node.uplink, &frame).0, TC_REDIRECT);
            let answer = packet.answer(SYN | ACK);
            let frame = dsr::with_mss(&answer, padding, announced);
            let (_, out) = node.raw("from_container", node.pod, &frame);
            let sent = Packet::parse(&out);
            assert_eq!((sent.src, dsr::mss(&sent, padding)), (syn.dst, announced.min(most)));
        }
    }
}

/// A test run takes no frames of 9000 bytes.
#[test]
fn the_room_is_that_of_the_egress_device_and_follows_it() {
    for dispatch in DISPATCHES {
        let node = dsr_ipip::node(dispatch);
        for family in FAMILIES {
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
            let added = overhead(family, dispatch);
            let send = |port, size| {
                let src = family.at(family.client, port).parse().unwrap();
                node.wire(&Packet { src, ..datagram(family, size) })
            };
            let goes = |port, size| {
                let (action, frame) = send(port, size);
                // What the Geneve device adds is not there yet.
                let inner = if dispatch == DsrDispatch::Geneve { size } else { size + added };
                assert_eq!((action, frame.len()), (TC_REDIRECT, 14 + inner), "{dispatch:?}");
            };
            for (n, mtu) in [1400, 3000].into_iter().enumerate() {
                let (fits, n) = (mtu - added, 10 * n as u16);
                for (open, told) in [(40010 + n, true), (40011 + n, false)] {
                    resize_uplink(&node, MTU);
                    node.objects.maps().move_route_epoch().unwrap();
                    goes(open, MTU - added);
                    resize_uplink(&node, mtu);
                    if told {
                        node.objects.maps().move_route_epoch().unwrap();
                    } else {
                        node.let_pass(1);
                    }
                    assert_told(family, send(open, mtu + 1), fits);
                    goes(open, fits);
                }
                assert_told(family, send(40012 + n, fits + 1), fits);
                goes(40013 + n, fits);
            }
        }
    }
}

#[test]
fn segments_are_announced_for_the_egress_device() {
    let node = node();
    for family in FAMILIES {
        let backend = family.at(family.remote, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        for (port, mtu) in [(40001, 1400), (40002, 9000)] {
            resize_uplink(&node, mtu);
            let src = family.at(family.client, port).parse().unwrap();
            let syn = Packet { src, ..request(family, TCP, 80) };
            let frame = dsr::with_mss(&syn, 0, 65000);
            let (sent, _) = dsr::parse(&KEY, &node.raw("from_netdev", node.uplink, &frame).1);
            let headers = if family.v6 { 60 } else { 40 };
            let room = mtu - headers - overhead(family, DsrDispatch::Option);
            assert_eq!(usize::from(dsr::mss(&sent, 0)), room);
        }
    }
}

#[test]
fn the_driver_hook_leaves_what_does_not_fit_to_tc_as_it_came() {
    for dispatch in [DsrDispatch::Option, DsrDispatch::Ipip] {
        let node = dsr_ipip::node(dispatch);
        for family in FAMILIES {
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
            resize_uplink(&node, 1400);
            let fits = 1400 - overhead(family, dispatch);
            let frame = datagram(family, fits + 1).bytes();
            assert_eq!(driver(&node, &frame), (XDP_PASS, frame.clone()));
            assert_told(family, node.raw("from_netdev", node.uplink, &frame), fits);
            let (action, frame) = driver(&node, &datagram(family, fits).bytes());
            assert_eq!((action, frame.len()), (XDP_TX, 14 + 1400));
        }
    }
}

/// Nobody fragments on the way to a backend's node: the sender must hear of it, asked for or not.
#[test]
fn what_may_be_fragmented_is_answered_too() {
    for dispatch in DISPATCHES {
        let node = dsr_ipip::node(dispatch);
        let backend = V4.at(V4.remote, 8080);
        let _service = serve(&node, &V4.at(V4.vip, 80), UDP, &[&backend]);
        let fits = MTU - overhead(V4, dispatch);
        let mut frame = datagram(V4, fits + 1).bytes();
        assert_eq!(frame[20], 0x40, "do not fragment");
        frame[20] = 0;
        dsr::write_header_checksum(&mut frame);
        assert_told(V4, node.raw("from_netdev", node.uplink, &frame), fits);
    }
}
