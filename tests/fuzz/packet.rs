// SPDX-License-Identifier: Apache-2.0
//! Whole packets with right checksums, in random shapes.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

use super::check::crc32c;
use super::random::{once_in, pick};
use super::shape::{extensions, options};
use super::view::{ICMP, ICMPV6, SCTP, TCP, UDP, fold, sum};
use super::world::{NODE_MAC, PEER_MAC};

/// A packet of `proto` with right checksums, in a random shape.
pub fn packet(rng: &mut Rng, src: SocketAddr, dst: SocketAddr, proto: u8) -> Vec<u8> {
    let mut l4 = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    let flags = pick(rng, &[0x02, 0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00, 0xff]);
    let room = pick(rng, &[0, 1, 20, 100, 1400]);
    let payload: Vec<u8> = (0..rng.usize(..=room)).map(|at| at as u8).collect();
    match proto {
        TCP => {
            let words = if once_in(rng, 4) { rng.u8(5..16) } else { 5 };
            l4.extend([0, 0, 0, 1, 0, 0, 0, 2, words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
            l4.extend(std::iter::repeat_n(1, usize::from(words - 5) * 4));
            let at = 20 + rng.usize(..4);
            if l4.len() >= at + 4 {
                let announced = pick(rng, &[1460_u16, 1440, 9000, 536, 40]);
                l4[at..at + 4].copy_from_slice(&[[2, 4], announced.to_be_bytes()].concat());
            }
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
            let check = crc32c(&l4).to_le_bytes();
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
            let options = if once_in(rng, 12) { options(rng) } else { Vec::new() };
            let (offset, more) = fragment.unwrap_or((0, false));
            let bits = offset | u16::from(more) << 13 | u16::from(rng.bool()) << 14;
            let mut ip = vec![0x45 + (options.len() / 4) as u8, rng.u8(..)];
            ip.extend(((20 + options.len() + l4.len()) as u16).to_be_bytes());
            ip.extend([[0, rng.u8(..4)], bits.to_be_bytes(), [ttl, proto], [0, 0]].concat());
            ip.extend(src.octets());
            ip.extend(dst.octets());
            ip.extend(options);
            let check = !fold(sum(&ip));
            ip[10..12].copy_from_slice(&check.to_be_bytes());
            frame.extend([0x08, 0x00]);
            frame.extend(ip);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (extension, first) = extensions(rng, proto, fragment);
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

pub fn icmp_frame(rng: &mut Rng, src: IpAddr, dst: IpAddr, mut icmp: Vec<u8>) -> Vec<u8> {
    icmp[2..4].fill(0);
    if src.is_ipv4() {
        let check = !fold(sum(&icmp));
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        return wrap(rng, src, dst, ICMP, &icmp);
    }
    seal(&mut icmp, src, dst, ICMPV6, 2);
    wrap(rng, src, dst, ICMPV6, &icmp)
}
