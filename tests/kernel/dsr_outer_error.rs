// SPDX-License-Identifier: Apache-2.0
//! IPIP over a path that is too narrow: the router's error is about the LB node's packet, and the
//! client must learn of it.

use culvert::abi::DsrDispatch;

use super::dsr::{request, serve};
use super::dsr_ipip::node;
use crate::support::dsr;
use crate::support::node::{FAMILIES, Node, TC_NEXT, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::Packet;
use crate::support::packet::icmp::IcmpError;

const ETHERNET: usize = 14;

#[test]
fn the_client_learns_the_mtu_that_is_left() {
    for family in FAMILIES {
        let (kind, code) = if family.v6 { (2, 0) } else { (3, 4) };
        let router = if family.v6 { "fd09::fe" } else { "10.9.0.254" };
        let outer = if family.v6 { 40 } else { 20 };
        let lb_node = node(DsrDispatch::Ipip);
        let error = |quote: &[u8]| {
            IcmpError::quoting(router, family.node.parse().unwrap(), quote, kind, code)
        };
        for proto in [TCP, UDP, SCTP] {
            let backend = family.at(family.remote, 8080);
            let _service = serve(&lb_node, &family.at(family.vip, 80), proto, &[&backend]);
            let request = Packet { payload: vec![7; 600], ..request(family, proto, 80) };
            let (action, sent) = lb_node.wire(&request);
            assert_eq!(action, TC_REDIRECT, "{:?}", lb_node.outcomes());
            let quoted = &sent[ETHERNET..];

            // As much as Linux quotes, and no more than is needed.
            let l4 = if proto == TCP { 20 } else { 8 };
            for length in [528, 2 * outer + l4] {
                let frame = error(&quoted[..length]);
                let (action, out) = lb_node.raw("from_netdev", lb_node.uplink, &frame);
                assert_eq!(action, TC_REDIRECT, "{length}: {:?}", lb_node.outcomes());
                let told = IcmpError::parse(&out);
                assert_eq!((told.kind, told.code), (kind, code));
                assert_eq!((told.src, told.dst), (request.dst.ip(), request.src.ip()));
                assert_eq!(told.quoted, (request.src, request.dst));
                assert_eq!(usize::from(dsr::told_mtu(&out)), 1280 - outer);
            }
            let untouched = |by: &Node, frame: Vec<u8>| {
                assert_eq!(by.raw("from_netdev", by.uplink, &frame), (TC_NEXT, frame));
            };
            // The least that a router may quote, and what another backend was sent.
            untouched(&lb_node, error(&quoted[..outer + 8]));
            let mut other = quoted[..528].to_vec();
            other[outer - 1] ^= 1;
            untouched(&lb_node, error(&other));
            // A later fragment has no ports, whatever lies in their place.
            if !family.v6 {
                for packet in [0, outer] {
                    let mut fragment = quoted[..528].to_vec();
                    fragment[packet + 7] = 9;
                    untouched(&lb_node, error(&fragment));
                }
            }
        }
    }
}
