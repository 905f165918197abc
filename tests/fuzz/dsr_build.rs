// SPDX-License-Identifier: Apache-2.0
//! Packets as other nodes dispatch them to backends of this one, and as strangers would like to.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

use super::build::{Builder, damage};
use super::dsr::{Mark, SIZES_V4, SIZES_V6, tag};
use super::entry::Entry;
use super::packet::packet;
use super::random::{once_in, pick};
use super::view::{ETHERNET, Ends};
use super::world::{KEYS, other_node};
use crate::support::dsr::{encapsulate, insert};
use crate::support::node::{FAMILIES, Family};

const STRANGERS_KEY: [u8; 16] = *b"nobody gave this";

impl Builder {
    /// A packet with an option, or in another packet.
    pub fn dispatched(&self, rng: &mut Rng) -> Vec<u8> {
        let (service, proto) = pick(rng, &self.frontends);
        let family = FAMILIES[usize::from(service.is_ipv6())];
        let client = SocketAddr::new(ip(family.client), 40_000 + rng.u16(..40));
        let backend = backend(rng, family);
        if once_in(rng, 2) {
            let from = pick(rng, &[other_node(family), other_node(family), family.client]);
            let port = if once_in(rng, 4) { service.port() } else { backend.port() };
            let inner = packet(rng, client, service, proto);
            return encapsulate(&inner, ip(from), backend.ip(), port);
        }
        let changed = SocketAddr::new(client.ip(), 50_000 + rng.u16(..4));
        let source = if once_in(rng, 4) { changed } else { client };
        let sizes = if family.v6 { SIZES_V6 } else { SIZES_V4 };
        let size = if once_in(rng, 3) { sizes[0] } else { sizes[1] };
        let mut frame = packet(rng, source, backend, proto);
        // An IPv4 header has 60 bytes at most.
        if !family.v6 && usize::from(frame[ETHERNET] & 15) * 4 + size > 60 {
            return frame;
        }
        let mark = Mark { service, client_port: client.port(), size };
        // The protocol of what follows, which may be an extension header.
        let next = if family.v6 { frame[20] } else { proto };
        let mut option = option(rng, [next, proto], (source, backend), &mark);
        if once_in(rng, 4) {
            spoil(rng, family, &mut option);
        }
        frame = insert(&frame, &option);
        frame
    }

    /// A packet as a tunnel brings it, and the tunnel option that came with it, if any. Half of them
    /// are another node's.
    pub fn tunnelled(&self, rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
        let (service, proto) = pick(rng, &self.frontends);
        let family = FAMILIES[usize::from(service.is_ipv6())];
        let client = SocketAddr::new(ip(family.client), 40_000 + rng.u16(..40));
        let changed = SocketAddr::new(client.ip(), 50_000 + rng.u16(..4));
        let source = if once_in(rng, 4) { changed } else { client };
        let backend = backend(rng, family);
        let key = pick(rng, &[KEYS[0], KEYS[0], KEYS[0], KEYS[1], STRANGERS_KEY]);
        let mut option = vec![0x01, 0x4b, 0x81, if family.v6 { 7 } else { 4 }];
        match service.ip() {
            IpAddr::V4(v4) => option.extend(v4.octets()),
            IpAddr::V6(v6) => option.extend(v6.octets()),
        }
        option.extend(service.port().to_be_bytes());
        option.extend(client.port().to_be_bytes());
        option.extend(tag(&key, proto, (source, backend), service, client.port()));
        if once_in(rng, 4) {
            spoil_tunnel(rng, &mut option);
        }
        let mut frame = packet(rng, source, backend, proto);
        if once_in(rng, 2) {
            frame = self.frame(rng, Entry::FromOverlay);
        }
        damage(rng, &mut frame);
        (frame, option)
    }
}

/// Changes a byte, leaves some out, or adds some. The kernel takes words only.
fn spoil_tunnel(rng: &mut Rng, option: &mut Vec<u8>) {
    match rng.u32(..4) {
        0 => {
            let at = rng.usize(..option.len());
            option[at] ^= 1 << rng.u32(..8);
        }
        1 => option.truncate(rng.usize(..option.len() / 4) * 4),
        2 => option.resize(option.len() + pick(rng, &[4, 8, 20]), 0),
        _ => {
            // The plain form, which has no tag.
            option.truncate(option.len() - 8);
            option[3] -= 2;
        }
    }
}

fn backend(rng: &mut Rng, family: Family) -> SocketAddr {
    let backends = [(family.pod, 8080), (family.other_pod, 9090), (family.node, 8443)];
    let (host, port) = if once_in(rng, 12) { (family.remote, 8080) } else { pick(rng, &backends) };
    SocketAddr::new(ip(host), port)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn option(rng: &mut Rng, [next, proto]: [u8; 2], ends: Ends, mark: &Mark) -> Vec<u8> {
    let key = pick(rng, &[KEYS[0], KEYS[0], KEYS[1], STRANGERS_KEY]);
    let tag = tag(&key, proto, ends, mark.service, mark.client_port);
    let port = mark.service.port().to_be_bytes();
    let client_port = mark.client_port.to_be_bytes();
    match mark.service.ip() {
        IpAddr::V4(v4) => {
            let mut out = vec![0x9a, mark.size as u8];
            out.extend(port);
            out.extend(v4.octets());
            if mark.size > SIZES_V4[0] {
                out.extend(client_port);
                out.extend(&tag[..6]);
            }
            out
        }
        IpAddr::V6(v6) => {
            let mut out = vec![next, (mark.size / 8 - 1) as u8, 0x1b, (mark.size - 4) as u8];
            out.extend(v6.octets());
            out.extend(port);
            if mark.size > SIZES_V6[0] {
                out.extend(client_port);
                out.extend(tag);
            } else {
                out.extend([0, 0]);
            }
            out
        }
    }
}

/// Changes a byte, or lengths that must agree.
fn spoil(rng: &mut Rng, family: Family, option: &mut Vec<u8>) {
    let length_at = if family.v6 { 3 } else { 1 };
    match rng.u32(..4) {
        0 => {
            let at = rng.usize(..option.len());
            option[at] ^= 1 << rng.u32(..8);
        }
        1 => option[length_at] = rng.u8(..),
        2 if family.v6 => option[1] = pick(rng, &[0, 1, 2, 3, 4, 34, 35, 255]),
        _ => {
            let more = option.len() + pick(rng, &[4, 8, 16, 256]);
            if family.v6 {
                option.resize(more.next_multiple_of(8), 1);
                option[1] = (option.len() / 8 - 1) as u8;
            } else {
                option.truncate(pick(rng, &[4, 8, 12]));
            }
        }
    }
}
