// SPDX-License-Identifier: Apache-2.0
//! Direct server return and packets that GRO has put together: what counts is what travels.

use culvert::abi::{DsrDispatch, Outcome};

use super::dsr::{request, serve};
use super::dsr_ipip;
use super::dsr_mtu::{DISPATCHES, MTU, assert_told, overhead};
use crate::support::dsr;
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{ACK, Packet};

/// What fits is not answered. A test run's skb does not say what its segments are, and such ones the
/// kernel does not let grow; those of real streams are on the wires of `dsr_wire`.
#[track_caller]
fn assert_fits(node: &Node, dispatch: DsrDispatch, (action, frame): (u32, Vec<u8>), length: usize) {
    if dispatch == DsrDispatch::Geneve {
        // Nothing is added before the device.
        assert_eq!((action, frame.len()), (TC_REDIRECT, length));
    } else {
        assert_eq!(action, TC_DROP, "{dispatch:?}: {:?}", node.outcomes());
        assert!(node.counted(Outcome::DropRewrite) > 0, "{:?}", node.outcomes());
    }
}

/// As many as a test run has room for.
const SEGMENTS: usize = 2;

/// Sends what GRO made of full packets with `payload` bytes each behind headers of `headers`.
fn send(node: &Node, frame: &[u8], payload: usize, headers: usize) -> (u32, Vec<u8>) {
    assert_eq!(frame.len(), 14 + headers + SEGMENTS * payload);
    assert!(frame.len() > 14 + MTU, "more than one packet may have");
    node.gathered("from_netdev", frame, [SEGMENTS as u32, payload as u32])
}

fn filled(family: Family, proto: u8, payload: usize) -> Packet {
    let flags = if proto == TCP { ACK } else { 0 };
    Packet { flags, payload: vec![7; SEGMENTS * payload], ..request(family, proto, 80) }
}

#[test]
fn datagrams_are_judged_one_by_one() {
    for dispatch in DISPATCHES {
        let node = dsr_ipip::node(dispatch);
        for family in FAMILIES {
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), UDP, &[&backend]);
            let headers = if family.v6 { 48 } else { 28 };
            let fits = MTU - overhead(family, dispatch);
            let try_with = |payload| {
                let frame = filled(family, UDP, payload).bytes();
                (send(&node, &frame, payload, headers), frame.len())
            };
            let before = node.counted(Outcome::DropTooBig);
            let (answer, _) = try_with(fits - headers + 1);
            assert_told(family, answer, fits);
            let (sent, length) = try_with(fits - headers);
            assert_fits(&node, dispatch, sent, length);
            assert_eq!(node.counted(Outcome::DropTooBig), before + 1);
        }
    }
}

#[test]
fn segments_of_tcp_are_judged_with_their_own_options() {
    for dispatch in DISPATCHES {
        let node = dsr_ipip::node(dispatch);
        for family in FAMILIES {
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
            // 1480 by IPIP, of which 1440 are payload.
            let fits = MTU - overhead(family, dispatch);
            // None, and those of a timestamp.
            for options in [0, 12] {
                let headers = if family.v6 { 60 } else { 40 } + options;
                let try_with = |payload| {
                    let packet = filled(family, TCP, payload);
                    let frame = match options {
                        0 => packet.bytes(),
                        // Eight times NOP, and what has the size of an MSS.
                        _ => dsr::with_mss(&packet, 8, 1460),
                    };
                    (send(&node, &frame, payload, headers), frame.len())
                };
                let (answer, _) = try_with(fits - headers + 1);
                assert_told(family, answer, fits);

                let (sent, length) = try_with(fits - headers);
                assert_fits(&node, dispatch, sent, length);
            }
        }
    }
}
