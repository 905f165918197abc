// SPDX-License-Identifier: Apache-2.0
//! Direct server return and packet sizes: what dispatching adds must fit the egress device.

use std::net::IpAddr;

use culvert::abi::{DsrDispatch, Outcome};

use super::dsr::{marked, node, request, serve};
use super::dsr_end::dispatched;
use super::dsr_ipip;
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Family, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::icmp::IcmpError;
use crate::support::packet::{ACK, Packet, SYN};

/// Of the test node's uplink.
const MTU: usize = 1500;

const fn overhead(family: Family, dispatch: DsrDispatch) -> usize {
    match (dispatch, family.v6) {
        (DsrDispatch::Ipip, false) => 20,
        (DsrDispatch::Ipip, true) => 40,
        (_, false) => 16,
        (_, true) => 32,
    }
}

/// A datagram whose IP packet has `size` bytes.
fn datagram(family: Family, size: usize) -> Packet {
    let headers = if family.v6 { 48 } else { 28 };
    Packet { payload: vec![7; size - headers], ..request(family, UDP, 80) }
}

#[test]
fn what_does_not_fit_with_the_option_is_answered_with_the_mtu_that_does() {
    for family in FAMILIES {
        for dispatch in [DsrDispatch::Option, DsrDispatch::Ipip] {
            let node = dsr_ipip::node(dispatch);
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
            let fits = MTU - overhead(family, dispatch);

            let (action, frame) = node.wire(&datagram(family, fits + 1));
            assert_eq!(action, TC_REDIRECT);
            let error = IcmpError::parse(&frame);
            assert_eq!((error.kind, error.code), if family.v6 { (2, 0) } else { (3, 4) });
            assert_eq!(error.dst, family.client.parse::<IpAddr>().unwrap());
            assert_eq!(usize::from(dsr::told_mtu(&frame)), fits);
            assert_eq!(node.counted(Outcome::DropTooBig), 1);

            let (action, frame) = node.wire(&datagram(family, fits));
            assert_eq!((action, frame.len()), (TC_REDIRECT, 14 + MTU));
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
