// SPDX-License-Identifier: Apache-2.0
//! Frames: mostly such as a network brings, then damaged in some place.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

use super::random::{once_in, pick};
use super::view::{ETHERNET, FRAGMENT, ICMP, ICMPV6, SCTP, TCP, UDP, View, fold, sum};
use super::world::{Entry, cluster_ip, other_remote};
use crate::support::node::{FAMILIES, Family};

const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// How many of the last translated frames answers are made for.
const RECENT: usize = 256;

#[derive(Debug)]
pub struct Builder {
    recent: VecDeque<Vec<u8>>,
}

impl Builder {
    pub fn new() -> Self {
        Self { recent: VecDeque::new() }
    }

    /// A frame that came out translated: it may get an answer.
    pub fn remember(&mut self, frame: &[u8]) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(frame.to_vec());
    }

    pub fn frame(&self, rng: &mut Rng, entry: Entry) -> Vec<u8> {
        let family = pick(rng, &FAMILIES);
        let mut frame = match rng.u32(..16) {
            0..7 => self.request(rng, family, entry),
            7..11 => self.answer(rng).unwrap_or_else(|| self.request(rng, family, entry)),
            11 | 12 => self.error(rng, family),
            13 => echo(rng, family, entry),
            14 => stray(rng, family),
            _ => link(rng, family),
        };
        damage(rng, &mut frame);
        frame
    }

    fn request(&self, rng: &mut Rng, family: Family, entry: Entry) -> Vec<u8> {
        let hosts = [family.node, family.vip, cluster_ip(family), family.pod, family.remote];
        let ports = [30080, 30443, 80, 53, 81, 82, 8080, 9000, 30081];
        let source = SocketAddr::new(source(rng, family, entry), 40_000 + rng.u16(..40));
        let destination = SocketAddr::new(ip(pick(rng, &hosts)), pick(rng, &ports));
        let proto = pick(rng, &[TCP, TCP, UDP, UDP, SCTP]);
        packet(rng, source, destination, proto)
    }

    /// The other side's answer to something that came out.
    fn answer(&self, rng: &mut Rng) -> Option<Vec<u8>> {
        let frame = self.recent.get(rng.usize(..self.recent.len().max(1)))?;
        let view = View::of(frame)?;
        let (source, destination) = view.ends();
        Some(packet(rng, destination, source, view.proto))
    }

    /// An ICMP error that quotes something that came out, or anything.
    fn error(&self, rng: &mut Rng, family: Family) -> Vec<u8> {
        let quoted = match self.recent.get(rng.usize(..self.recent.len().max(1))) {
            Some(frame) if !once_in(rng, 4) => frame.clone(),
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
        Entry::FromNetdev => family.client,
        Entry::FromContainer => family.pod,
        Entry::ToNetdev | Entry::ToContainer => family.node,
    };
    let others =
        [family.client, family.pod, family.other_pod, family.remote, family.node, family.vip];
    if once_in(rng, 8) { ip(pick(rng, &others)) } else { ip(usual) }
}

/// A packet of `proto` with right checksums, in a random shape.
fn packet(rng: &mut Rng, src: SocketAddr, dst: SocketAddr, proto: u8) -> Vec<u8> {
    let mut l4 = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    let flags = pick(rng, &[0x02, 0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00, 0xff]);
    let room = pick(rng, &[0, 1, 20, 100, 1400]);
    let payload: Vec<u8> = (0..rng.usize(..=room)).map(|at| at as u8).collect();
    match proto {
        TCP => {
            let words = if once_in(rng, 4) { rng.u8(5..16) } else { 5 };
            l4.extend([0, 0, 0, 1, 0, 0, 0, 2, words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
            l4.extend(std::iter::repeat_n(1, usize::from(words - 5) * 4));
        }
        UDP => l4.extend([(8 + payload.len() as u16).to_be_bytes(), [0, 0]].concat()),
        ICMP | ICMPV6 => l4.extend([0, 0, 0, 0]),
        _ => l4.extend([0, 0, 0, 7, 0, 0, 0, 0, 1, 0, 0, 4]),
    }
    l4.extend(payload);
    let no_checksum = proto == UDP && src.is_ipv4() && once_in(rng, 8);
    match proto {
        TCP => seal(&mut l4, src.ip(), dst.ip(), proto, 16),
        UDP if !no_checksum => seal(&mut l4, src.ip(), dst.ip(), proto, 6),
        SCTP => {
            let check = super::judge::crc32c(&l4).to_le_bytes();
            l4[8..12].copy_from_slice(&check);
        }
        _ => {}
    }
    wrap(rng, src.ip(), dst.ip(), proto, &l4)
}

fn seal(l4: &mut [u8], src: IpAddr, dst: IpAddr, proto: u8, at: usize) {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    let pseudo = address(src) + address(dst) + u32::from(proto) + l4.len() as u32;
    let check = match !fold(pseudo + sum(l4)) {
        0 if proto == UDP => 0xffff,
        check => check,
    };
    l4[at..at + 2].copy_from_slice(&check.to_be_bytes());
}

/// IP and Ethernet around `l4`: now and then with options, extension headers, or as a fragment.
fn wrap(rng: &mut Rng, src: IpAddr, dst: IpAddr, proto: u8, l4: &[u8]) -> Vec<u8> {
    let mut frame = [NODE_MAC, PEER_MAC].concat();
    let ttl = pick(rng, &[64, 64, 64, 255, 2, 1, 0]);
    let fragment = once_in(rng, 12).then(|| (pick(rng, &[0_u16, 0, 185, 8191]), rng.bool()));
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let options = if once_in(rng, 12) { rng.usize(1..=10) * 4 } else { 0 };
            let (offset, more) = fragment.unwrap_or((0, false));
            let bits = offset | u16::from(more) << 13 | u16::from(rng.bool()) << 14;
            let mut ip = vec![0x45 + (options / 4) as u8, rng.u8(..)];
            ip.extend((20 + options as u16 + l4.len() as u16).to_be_bytes());
            ip.extend([[0, rng.u8(..4)], bits.to_be_bytes(), [ttl, proto], [0, 0]].concat());
            ip.extend(src.octets());
            ip.extend(dst.octets());
            ip.extend(std::iter::repeat_n(1, options));
            let check = !fold(sum(&ip));
            ip[10..12].copy_from_slice(&check.to_be_bytes());
            frame.extend([0x08, 0x00]);
            frame.extend(ip);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut extension = Vec::new();
            let mut first = proto;
            if once_in(rng, 12) {
                extension = vec![proto, 0, 1, 4, 0, 0, 0, 0];
                first = pick(rng, &[0, 43, 60]);
            } else if let Some((offset, more)) = fragment {
                let bits = (offset << 3) | u16::from(more);
                extension = [[proto, 0], bits.to_be_bytes(), [0, 0], [0, rng.u8(..4)]].concat();
                first = FRAGMENT;
            }
            frame.extend([0x86, 0xdd, 0x60, rng.u8(..16), 0, 0]);
            frame.extend(((extension.len() + l4.len()) as u16).to_be_bytes());
            frame.extend([first, ttl]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
            frame.extend(extension);
        }
        _ => unreachable!("both ends are of one family"),
    }
    frame.extend(l4);
    frame
}

fn icmp_frame(rng: &mut Rng, src: IpAddr, dst: IpAddr, mut icmp: Vec<u8>) -> Vec<u8> {
    icmp[2..4].fill(0);
    if src.is_ipv4() {
        let check = !fold(sum(&icmp));
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        return wrap(rng, src, dst, ICMP, &icmp);
    }
    seal(&mut icmp, src, dst, ICMPV6, 2);
    wrap(rng, src, dst, ICMPV6, &icmp)
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

/// The kernel runs no test with less than a whole IP header.
fn least(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x08, 0x00] => ETHERNET + 20,
        [0x86, 0xdd] => ETHERNET + 40,
        _ => ETHERNET + 1,
    }
}

/// Now and then bytes change, are missing or too many.
fn damage(rng: &mut Rng, frame: &mut Vec<u8>) {
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
