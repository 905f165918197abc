// SPDX-License-Identifier: Apache-2.0
//! TCP frames of 60 bytes (IPv4) or 74 bytes (IPv6) and what is read back from them.
//!
//! TCP's checksum is right, for a wrong one takes another way; IPv4's stays zero: it is updated, never verified.

use std::net::{IpAddr, SocketAddr};

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
const SHORTEST: usize = 60;
const PROTO_TCP: u8 = 6;

/// Source and destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

impl Tuple {
    /// The tuple of an answer.
    pub const fn turned(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// An Ethernet frame with a TCP segment without payload.
pub fn tcp(tuple: Tuple, flags: u8, to_mac: [u8; 6], from_mac: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(SHORTEST);
    frame.extend(to_mac);
    frame.extend(from_mac);
    match (tuple.from.ip(), tuple.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(((IPV4 + TCP) as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, PROTO_TCP, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((TCP as u16).to_be_bytes());
            frame.extend([PROTO_TCP, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => panic!("{tuple:?} mixes families"),
    }
    frame.extend(tuple.from.port().to_be_bytes());
    frame.extend(tuple.to.port().to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let segment = frame.len() - TCP;
    let check = segment + 16;
    let pseudo: u32 =
        words(&frame[address_offset(&frame)..segment]) + u32::from(PROTO_TCP) + TCP as u32;
    let sum = !fold(pseudo + words(&frame[segment..]));
    frame[check..check + 2].copy_from_slice(&sum.to_be_bytes());
    if frame.len() < SHORTEST {
        frame.resize(SHORTEST, 0);
    }
    frame
}

/// Sum of big-endian words (RFC 1071).
fn words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// Where the source address begins; the destination follows it, and the L4 header that.
fn address_offset(frame: &[u8]) -> usize {
    ETHERNET + if is_v4(frame) { 12 } else { 8 }
}

/// The tuple a frame made by [`tcp`] carries now.
pub fn tuple(frame: &[u8]) -> Tuple {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let ports = source_port_offset(frame);
    let (from, to): (IpAddr, IpAddr) = if is_v4(frame) {
        let v4 = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).expect("four bytes").into();
        (v4(26), v4(30))
    } else {
        let v6 = |at: usize| <[u8; 16]>::try_from(&frame[at..at + 16]).expect("16 bytes").into();
        (v6(22), v6(38))
    };
    Tuple { from: SocketAddr::new(from, port(ports)), to: SocketAddr::new(to, port(ports + 2)) }
}

/// Where the source port lies; the destination port follows it.
pub fn source_port_offset(frame: &[u8]) -> usize {
    ETHERNET + if is_v4(frame) { IPV4 } else { IPV6 }
}

/// Where the low half of the source address lies.
pub fn source_low_offset(frame: &[u8]) -> usize {
    ETHERNET + if is_v4(frame) { 14 } else { 22 }
}

fn is_v4(frame: &[u8]) -> bool {
    frame[12..14] == [0x08, 0x00]
}
