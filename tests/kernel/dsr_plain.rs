// SPDX-License-Identifier: Apache-2.0
//! Direct server return by the options that others read, byte by byte: the LB node.

use culvert::abi::DsrDispatch;

use super::dsr::{request, serve};
use super::dsr_ipip;
use super::xdp::{XDP_TX, driver};
use crate::support::dsr;
use crate::support::node::{FAMILIES, Family, Node, ROUTER_MAC, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::Packet;

fn node() -> Node {
    dsr_ipip::node_with(DsrDispatch::Option, |config| config.dsr_plain_out = 1)
}

/// Port 80 of the service, in the words of the wire.
fn option(family: Family, proto: u8) -> Vec<u8> {
    if family.v6 {
        let mut option = vec![proto, 2, 0x1b, 20];
        option.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        option.extend([0, 80, 0, 0]);
        return option;
    }
    vec![0x9a, 8, 0, 80, 203, 0, 113, 80]
}

/// `frame` must be `request` on its way to `backend`, with the option and nothing else changed.
#[track_caller]
fn assert_carried(family: Family, frame: &[u8], request: &Packet, backend: &str) {
    let option = option(family, request.proto);
    let plain =
        Packet { dst: backend.parse().unwrap(), ttl: request.ttl - 1, ..request.clone() }.bytes();
    let header = 14 + if family.v6 { 40 } else { 20 };
    assert_eq!(frame[header..header + option.len()], option);
    assert_eq!(frame[header + option.len()..], plain[header..]);
    let length = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    if family.v6 {
        assert_eq!((frame[20], length(18)), (60, frame.len() - 54));
    } else {
        assert_eq!((frame[14], length(16)), (0x47, frame.len() - 14));
    }
    // The rest of the IP header, and IPv4's checksum.
    assert_eq!(frame[12..], dsr::insert(&plain, &option)[12..]);
}

#[test]
fn requests_carry_what_others_read() {
    let node = node();
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            let request = request(family, proto, 80);
            let (action, frame) = node.wire(&request);
            assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
            assert_carried(family, &frame, &request, &backend);
        }
    }
}

#[test]
fn so_do_those_that_the_driver_hook_sends() {
    let node = node();
    for family in FAMILIES {
        // SCTP's CRC would change with a port.
        for (proto, port) in [(TCP, 8080), (UDP, 8080), (SCTP, 80)] {
            let backend = family.at(family.remote, port);
            let _service = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            let request = request(family, proto, 80);
            let (action, frame) = driver(&node, &request.bytes());
            assert_eq!(action, XDP_TX, "{:?}", node.outcomes());
            assert_eq!(frame[..6], ROUTER_MAC);
            assert_carried(family, &frame, &request, &backend);
        }
    }
}
