// SPDX-License-Identifier: Apache-2.0
//! Packets built and read byte by byte, independently of the datapath's own code.

pub mod icmp;
pub mod pieces;

use std::net::{IpAddr, SocketAddr};

use super::objects::{SCTP, TCP, UDP};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// What packets that arrive carry.
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ETHERNET: usize = 14;

/// A TCP segment or UDP datagram in an Ethernet frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    pub dmac: [u8; 6],
    pub smac: [u8; 6],
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub proto: u8,
    pub flags: u8,
    pub ttl: u8,
    pub payload: Vec<u8>,
}

pub fn tcp(src: &str, dst: &str, flags: u8) -> Packet {
    Packet { proto: TCP, flags, ..udp(src, dst) }
}

pub fn udp(src: &str, dst: &str) -> Packet {
    Packet {
        dmac: NODE_MAC,
        smac: PEER_MAC,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: UDP,
        flags: 0,
        ttl: 64,
        payload: b"culvert carries this".to_vec(),
    }
}

/// An SCTP packet; its payload need not be chunks.
pub fn sctp(src: &str, dst: &str) -> Packet {
    Packet { proto: SCTP, ..udp(src, dst) }
}

impl Packet {
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The other side's answer to this packet.
    pub fn answer(&self, flags: u8) -> Self {
        Self { src: self.dst, dst: self.src, flags, ttl: 64, ..self.clone() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut l4 = Vec::new();
        l4.extend(self.src.port().to_be_bytes());
        l4.extend(self.dst.port().to_be_bytes());
        if self.proto == SCTP {
            l4.extend([0x5c, 0x7b, 0, 1, 0, 0, 0, 0]);
            l4.extend(&self.payload);
            let crc = crc32c(&l4);
            l4[8..12].copy_from_slice(&crc.to_le_bytes());
            return frame(
                [self.dmac, self.smac],
                self.src.ip(),
                self.dst.ip(),
                self.proto,
                self.ttl,
                &l4,
            );
        }
        let check = if self.proto == TCP {
            l4.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
            16
        } else {
            l4.extend((8 + self.payload.len() as u16).to_be_bytes());
            l4.extend([0, 0]);
            6
        };
        l4.extend(&self.payload);
        let sum = pseudo(self.src.ip(), self.dst.ip(), self.proto, l4.len()) + sum(&l4);
        let sum = match finish(sum) {
            0 if self.proto == UDP => 0xffff,
            sum => sum,
        };
        l4[check..check + 2].copy_from_slice(&sum.to_be_bytes());

        frame([self.dmac, self.smac], self.src.ip(), self.dst.ip(), self.proto, self.ttl, &l4)
    }

    /// Reads a frame. Every checksum in it must be right.
    #[track_caller]
    pub fn parse(frame: &[u8]) -> Self {
        let (header, l4) = ip(frame);
        let ports = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
        if header.proto == SCTP {
            let zeroed = [&l4[..8], &[0; 4], &l4[12..]].concat();
            assert_eq!(l4[8..12], crc32c(&zeroed).to_le_bytes(), "wrong CRC: {frame:02x?}");
        } else {
            let whole = pseudo(header.src, header.dst, header.proto, l4.len()) + sum(l4);
            assert_eq!(finish(whole), 0, "wrong L4 checksum: {frame:02x?}");
        }
        let (flags, payload) = match header.proto {
            TCP => (l4[13], &l4[20..]),
            UDP => (0, &l4[8..]),
            SCTP => (0, &l4[12..]),
            other => panic!("protocol {other}: {frame:02x?}"),
        };
        Self {
            dmac: frame[..6].try_into().unwrap(),
            smac: frame[6..12].try_into().unwrap(),
            src: SocketAddr::new(header.src, ports(0)),
            dst: SocketAddr::new(header.dst, ports(2)),
            proto: header.proto,
            flags,
            ttl: header.ttl,
            payload: payload.to_vec(),
        }
    }
}

/// An Ethernet frame around an IP packet around `l4`.
fn frame(macs: [[u8; 6]; 2], src: IpAddr, dst: IpAddr, proto: u8, ttl: u8, l4: &[u8]) -> Vec<u8> {
    let mut out = macs.concat();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            out.extend([0x08, 0x00]);
            let mut ip = vec![0x45, 0];
            ip.extend((20 + l4.len() as u16).to_be_bytes());
            ip.extend([0, 7, 0x40, 0, ttl, proto, 0, 0]);
            ip.extend(src.octets());
            ip.extend(dst.octets());
            let header = finish(sum(&ip));
            ip[10..12].copy_from_slice(&header.to_be_bytes());
            out.extend(ip);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend((l4.len() as u16).to_be_bytes());
            out.extend([proto, ttl]);
            out.extend(src.octets());
            out.extend(dst.octets());
        }
        (src, dst) => panic!("{src} and {dst} are of different families"),
    }
    out.extend(l4);
    out
}

struct IpHeader {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    ttl: u8,
}

#[track_caller]
fn ip(frame: &[u8]) -> (IpHeader, &[u8]) {
    let (header, rest) = ip_lengths_ignored(frame);
    let length = match header.src {
        IpAddr::V4(_) => u16::from_be_bytes([frame[16], frame[17]]) - 20,
        IpAddr::V6(_) => u16::from_be_bytes([frame[18], frame[19]]),
    };
    assert_eq!(usize::from(length), rest.len(), "wrong length field: {frame:02x?}");
    (header, rest)
}

#[track_caller]
fn ip_lengths_ignored(frame: &[u8]) -> (IpHeader, &[u8]) {
    let l3 = &frame[ETHERNET..];
    match l3[0] >> 4 {
        4 => {
            assert_eq!(finish(sum(&l3[..20])), 0, "wrong IPv4 checksum: {frame:02x?}");
            let at = |from: usize| -> IpAddr {
                <[u8; 4]>::try_from(&l3[from..from + 4]).unwrap().into()
            };
            (IpHeader { src: at(12), dst: at(16), proto: l3[9], ttl: l3[8] }, &l3[20..])
        }
        6 => {
            let at = |from: usize| -> IpAddr {
                <[u8; 16]>::try_from(&l3[from..from + 16]).unwrap().into()
            };
            (IpHeader { src: at(8), dst: at(24), proto: l3[6], ttl: l3[7] }, &l3[40..])
        }
        version => panic!("IP version {version}: {frame:02x?}"),
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum()
}

/// Bit by bit, as RFC 9260, appendix A defines it.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

pub fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, length: usize) -> u32 {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    address(src) + address(dst) + u32::from(proto) + length as u32
}

pub fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
