// SPDX-License-Identifier: Apache-2.0
//! Frames: mostly such as a network brings, then damaged in some place.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

use super::dsr::bare;
use super::entry::Entry;
use super::packet::{icmp_frame, packet};
use super::random::{once_in, pick};
use super::view::{ETHERNET, SCTP, TCP, UDP, View};
use super::world::{Dispatch, PEER_MAC, TAGS, World, cluster_ip, other_remote};
use crate::support::node::{FAMILIES, Family};

/// How many of the last translated frames answers are made for.
const RECENT: usize = 256;

#[derive(Debug)]
pub struct Builder {
    dispatch: Dispatch,
    /// Address, port and protocol, in an order of their own.
    pub(super) frontends: Vec<(SocketAddr, u8)>,
    recent: VecDeque<Vec<u8>>,
}

impl Builder {
    pub fn new(world: &World) -> Self {
        let mut frontends: Vec<_> = world.frontends.keys().copied().collect();
        frontends.sort();
        Self { dispatch: world.dispatch, frontends, recent: VecDeque::new() }
    }

    /// A frame that came out translated, with its option: it may get an answer.
    pub fn remember(&mut self, frame: &[u8]) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(frame.to_vec());
    }

    pub fn frame(&self, rng: &mut Rng, entry: Entry) -> Vec<u8> {
        let family = pick(rng, &FAMILIES);
        let wire = matches!(entry, Entry::Driver | Entry::FromNetdev | Entry::FromOverlay);
        let mut frame = match rng.u32(..16) {
            0..3 if wire && self.dispatch != Dispatch::Off => self.dispatched(rng),
            0..7 => self.request(rng, family, entry),
            7..11 => self.answer(rng).unwrap_or_else(|| self.request(rng, family, entry)),
            11 | 12 => self.error(rng, family),
            13 => echo(rng, family, entry),
            14 => stray(rng, family),
            _ => link(rng, family),
        };
        dress(rng, entry, &mut frame);
        damage(rng, &mut frame);
        frame
    }

    fn request(&self, rng: &mut Rng, family: Family, entry: Entry) -> Vec<u8> {
        let source =
            |rng: &mut Rng| SocketAddr::new(source(rng, family, entry), 40_000 + rng.u16(..40));
        let (destination, proto) = pick(rng, &self.frontends);
        if destination.is_ipv6() == family.v6 {
            let source = source(rng);
            return packet(rng, source, destination, proto);
        }
        let hosts = [family.node, family.vip, cluster_ip(family), family.pod, family.remote];
        let ports = [30080, 30443, 80, 53, 81, 82, 8080, 9000, 30081];
        let source = source(rng);
        let destination = SocketAddr::new(ip(pick(rng, &hosts)), pick(rng, &ports));
        let proto = pick(rng, &[TCP, TCP, UDP, UDP, SCTP]);
        packet(rng, source, destination, proto)
    }

    /// The other side's answer to something that came out.
    fn answer(&self, rng: &mut Rng) -> Option<Vec<u8>> {
        let frame = bare(self.recent.get(rng.usize(..self.recent.len().max(1)))?);
        let view = View::of(&frame)?;
        let (source, destination) = view.ends();
        Some(packet(rng, destination, source, view.proto))
    }

    /// An ICMP error that quotes something that came out, or anything.
    fn error(&self, rng: &mut Rng, family: Family) -> Vec<u8> {
        let quoted = match self.recent.get(rng.usize(..self.recent.len().max(1))) {
            Some(frame) if !once_in(rng, 4) => frame.clone(),
            _ if self.dispatch != Dispatch::Off && once_in(rng, 2) => self.dispatched(rng),
            _ => self.request(rng, family, Entry::FromNetdev),
        };
        let Some(view) = View::of(&quoted) else {
            return stray(rng, family);
        };
        let family = if view.v6 { FAMILIES[1] } else { FAMILIES[0] };
        let from = if once_in(rng, 2) { view.dst } else { ip(family.client) };
        let kind = if view.v6 { pick(rng, &[1, 2, 3, 4]) } else { pick(rng, &[3, 11, 12, 5]) };
        let mut icmp = vec![kind, rng.u8(..5), 0, 0, 0, 0, 5, 0];
        let inner = &quoted[ETHERNET..];
        icmp.extend(&inner[..inner.len().min(pick(rng, &[28, 48, 60, 128]))]);
        if once_in(rng, 4) {
            // A quote in a quote.
            let again = icmp.clone();
            icmp.extend(again);
        }
        icmp_frame(rng, from, view.src, icmp)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn source(rng: &mut Rng, family: Family, entry: Entry) -> IpAddr {
    let usual = match entry {
        Entry::Driver | Entry::FromNetdev | Entry::FromOverlay => family.client,
        Entry::FromContainer => family.pod,
        Entry::ToNetdev | Entry::ToContainer => family.node,
    };
    let others =
        [family.client, family.pod, family.other_pod, family.remote, family.node, family.vip];
    if once_in(rng, 8) { ip(pick(rng, &others)) } else { ip(usual) }
}

fn echo(rng: &mut Rng, family: Family, entry: Entry) -> Vec<u8> {
    let hosts = [family.vip, family.node, cluster_ip(family), family.other_pod, family.client];
    let kind = if family.v6 { pick(rng, &[128, 129]) } else { pick(rng, &[8, 0]) };
    let icmp = vec![kind, 0, 0, 0, 0, 7, 0, rng.u8(..), 1, 2, 3, 4];
    let (src, dst) = (source(rng, family, entry), ip(pick(rng, &hosts)));
    icmp_frame(rng, src, dst, icmp)
}

/// Any protocol between any two.
fn stray(rng: &mut Rng, family: Family) -> Vec<u8> {
    let hosts = [
        family.client,
        family.pod,
        family.node,
        family.remote,
        other_remote(family),
        family.hairpin,
    ];
    let src = SocketAddr::new(ip(pick(rng, &hosts)), rng.u16(..));
    let dst = SocketAddr::new(ip(pick(rng, &hosts)), rng.u16(..));
    let proto = rng.u8(..);
    packet(rng, src, dst, proto)
}

/// ARP and neighbour solicitations, as a pod sends them, and what is no IP at all.
fn link(rng: &mut Rng, family: Family) -> Vec<u8> {
    if family.v6 {
        let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
        let target = ip(pick(rng, &[family.node, family.other_pod, "fe80::1"]));
        let IpAddr::V6(target) = target else { unreachable!("an address of IPv6") };
        icmp.extend(target.octets());
        icmp.extend([1, 1]);
        icmp.extend(PEER_MAC);
        let from = ip(pick(rng, &[family.pod, "fe80::5"]));
        return icmp_frame(rng, from, target.into(), icmp);
    }
    let mut frame = [[0xff; 6], PEER_MAC].concat();
    frame.extend(pick(rng, &[[0x08, 0x06], [0x88, 0xcc], [0x81, 0x00]]));
    frame.extend([0, 1, 8, 0, 6, 4, 0, pick(rng, &[1, 2])]);
    frame.extend(PEER_MAC);
    frame.extend([10, 244, 1, 5]);
    frame.extend([0; 6]);
    frame.extend([169, 254, 1, 1]);
    frame
}

/// Now and then a frame has tags, or is somebody else's.
fn dress(rng: &mut Rng, entry: Entry, frame: &mut Vec<u8>) {
    if once_in(rng, if entry == Entry::Driver { 3 } else { 64 }) {
        frame.splice(12..12, pick(rng, &TAGS).iter().copied());
    }
    if once_in(rng, 32) {
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    }
}

/// The kernel runs no test with less than a whole IP header.
pub fn least(frame: &[u8]) -> usize {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => ETHERNET + 20,
        Some([0x86, 0xdd]) => ETHERNET + 40,
        _ => ETHERNET + 1,
    }
}

/// Now and then bytes change, are missing or too many.
pub(super) fn damage(rng: &mut Rng, frame: &mut Vec<u8>) {
    match rng.u32(..16) {
        0 => {
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(12..frame.len().max(13));
                if let Some(byte) = frame.get_mut(at) {
                    *byte = rng.u8(..);
                }
            }
        }
        1 => frame.truncate(rng.usize(least(frame)..=frame.len())),
        2 => frame.extend(std::iter::repeat_with(|| 0xee).take(rng.usize(..64))),
        _ => {}
    }
}
