// SPDX-License-Identifier: Apache-2.0
//! ICMP errors about packets that were dispatched by IP option: who sent them must recognise them,
//! whichever LB node the error passes.

use std::net::{IpAddr, SocketAddr};

use culvert::abi::Outcome;

use super::dsr::{node, request, serve};
use super::dsr_end::dispatched;
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Family, Node, TC_REDIRECT};
use crate::support::objects::{SCTP, TCP, UDP};
use crate::support::packet::Packet;
use crate::support::packet::icmp::IcmpError;

const ETHERNET: usize = 14;

/// What the error tells: to whom, the MTU, and the ends of the quoted packet.
fn read(frame: &[u8], v6: bool) -> (IpAddr, usize, SocketAddr, SocketAddr) {
    let icmp = ETHERNET + if v6 { 40 } else { 20 };
    let to = if v6 {
        <[u8; 16]>::try_from(&frame[38..54]).unwrap().into()
    } else {
        <[u8; 4]>::try_from(&frame[30..34]).unwrap().into()
    };
    IcmpError::assert_checksums(frame);
    let quote = [&frame[..ETHERNET], &frame[icmp + 8..]].concat();
    // Checks the quoted header's checksum, too.
    let (plain, _) = dsr::take(&quote).expect("the quote is as it was on the way");
    let (source, target) = IcmpError::ends(&plain);
    (to, usize::from(dsr::told_mtu(frame)), source, target)
}

/// A router between `node` and the backend cannot pass on `sent`; the error comes to `by`.
#[track_caller]
fn assert_told(by: &Node, family: Family, request: &Packet, sent: &[u8]) {
    let router = if family.v6 { "fd09::fe" } else { "10.9.0.254" };
    let (kind, code) = if family.v6 { (2, 0) } else { (3, 4) };
    let inner = &sent[ETHERNET..];
    let error = IcmpError::quoting(router, request.src.ip(), inner, kind, code);
    let (action, frame) = by.raw("from_netdev", by.uplink, &error);
    assert_eq!(action, TC_REDIRECT, "{:?}", by.outcomes());
    let option = if family.v6 { 32 } else { 16 };
    let told = (request.src.ip(), 1280 - option, request.src, request.dst);
    assert_eq!(read(&frame, family.v6), told);
}

#[test]
fn the_client_is_told_what_it_sent_and_an_mtu_with_room_for_the_option() {
    for family in FAMILIES {
        for proto in [TCP, UDP] {
            let (node, other) = (node(), node());
            let backend = family.at(family.remote, 8080);
            let _one = serve(&node, &family.at(family.vip, 81), proto, &[&backend]);
            let _two = serve(&node, &family.at(family.vip, 80), proto, &[&backend]);
            // The second one's port is changed.
            node.wire(&request(family, proto, 81));
            let request = request(family, proto, 80);
            let (action, sent) = node.wire(&request);
            assert_eq!(action, TC_REDIRECT);
            assert_told(&node, family, &request, &sent);
            // A node that never saw the packet goes by what the quote says.
            assert_told(&other, family, &request, &sent);
        }
    }
}

/// The backend's node must say that the TTL of `sent`, which is `request` to the client, has ended.
#[track_caller]
fn assert_expired(node: &Node, family: Family, request: &Packet, sent: &[u8]) {
    let before = node.counted(Outcome::DropTtl);
    let (action, frame) = node.raw("from_netdev", node.uplink, sent);
    assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
    let error = IcmpError::parse(&frame);
    let exceeded = if family.v6 { (3, 0) } else { (11, 0) };
    assert_eq!((error.kind, error.code), exceeded);
    assert_eq!((error.src, error.dst), (request.dst.ip(), request.src.ip()));
    assert_eq!(error.quoted, (request.src, request.dst));
    assert_eq!(node.counted(Outcome::DropTtl), before + 1);
}

#[test]
fn a_ttl_that_ends_at_the_backends_node_is_told_of_what_the_client_sent() {
    for family in FAMILIES {
        for proto in [TCP, UDP, SCTP] {
            let node = node();
            let request = request(family, proto, 80);
            for port in [40001, 50001] {
                // The second one comes from another port than before.
                let (packet, mark) = dispatched(family, &request, port);
                let packet = packet.ttl(1);
                let marked = dsr::with_option(&packet, &dsr::option(&KEY, &packet, &mark));
                assert_expired(&node, family, &request, &marked);
                // Later ones have no option.
                assert_expired(&node, family, &request, &packet.bytes());
            }
        }
    }
}
