// SPDX-License-Identifier: Apache-2.0
//! Packets built and read byte by byte, independently of the datapath's own code.

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

/// An ICMP error and what it quotes.
#[derive(Debug, PartialEq)]
pub struct IcmpError {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub kind: u8,
    pub code: u8,
    /// Of the quoted packet.
    pub quoted: (SocketAddr, SocketAddr),
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

impl IcmpError {
    /// A frame in which `from` tells the sender of `quoted` what became of it.
    pub fn frame(from: &str, quoted: &Packet, kind: u8, code: u8) -> Vec<u8> {
        let from: IpAddr = from.parse().unwrap();
        let to = quoted.src.ip();
        let inner = &quoted.bytes()[ETHERNET..];
        let mut icmp = vec![kind, code, 0, 0, 0, 0, 5, 0];
        icmp.extend(&inner[..inner.len().min(60)]);
        let proto = if from.is_ipv4() { ICMP } else { ICMPV6 };
        let start = if from.is_ipv4() { 0 } else { pseudo(from, to, ICMPV6, icmp.len()) };
        let check = finish(start + sum(&icmp));
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        frame([NODE_MAC, PEER_MAC], from, to, proto, 64, &icmp)
    }

    /// Reads a frame. The IP and ICMP checksums must be right.
    #[track_caller]
    pub fn parse(frame: &[u8]) -> Self {
        let (header, icmp) = ip(frame);
        let start = match header.proto {
            ICMP => 0,
            ICMPV6 => pseudo(header.src, header.dst, ICMPV6, icmp.len()),
            other => panic!("protocol {other} is not ICMP: {frame:02x?}"),
        };
        assert_eq!(finish(start + sum(icmp)), 0, "wrong ICMP checksum: {frame:02x?}");
        let mut quote = frame[..ETHERNET].to_vec();
        quote.extend(&icmp[8..]);
        let (inner, l4) = ip_lengths_ignored(&quote);
        let port = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
        Self {
            src: header.src,
            dst: header.dst,
            kind: icmp[0],
            code: icmp[1],
            quoted: (SocketAddr::new(inner.src, port(0)), SocketAddr::new(inner.dst, port(2))),
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

fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, length: usize) -> u32 {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    address(src) + address(dst) + u32::from(proto) + length as u32
}

fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Fails unless the ICMPv6 checksum of `frame` is right.
#[track_caller]
pub fn check_icmpv6(frame: &[u8]) {
    let (header, icmp) = ip(frame);
    let whole = pseudo(header.src, header.dst, ICMPV6, icmp.len()) + sum(icmp);
    assert_eq!((header.proto, finish(whole)), (ICMPV6, 0), "wrong checksum: {frame:02x?}");
}

/// An ICMP message without ports: an echo request or its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Echo {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub reply: bool,
    pub body: Vec<u8>,
}

impl Echo {
    pub fn request(src: &str, dst: &str) -> Self {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        Self { src, dst, ttl: 9, reply: false, body: b"\x12\x34\0\x01how far?".to_vec() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let v6 = self.src.is_ipv6();
        let (proto, start, kind) = if v6 {
            (ICMPV6, pseudo(self.src, self.dst, ICMPV6, 4 + self.body.len()), 128)
        } else {
            (ICMP, 0, 8)
        };
        let mut icmp = vec![kind, 0, 0, 0];
        icmp.extend(&self.body);
        let check = finish(start + sum(&icmp));
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        frame([NODE_MAC, PEER_MAC], self.src, self.dst, proto, self.ttl, &icmp)
    }

    /// Reads a frame. The IP and ICMP checksums must be right.
    #[track_caller]
    pub fn parse(frame: &[u8]) -> Self {
        let (header, icmp) = ip(frame);
        let v6 = header.src.is_ipv6();
        assert_eq!(header.proto, if v6 { ICMPV6 } else { ICMP }, "{frame:02x?}");
        let start = if v6 { pseudo(header.src, header.dst, ICMPV6, icmp.len()) } else { 0 };
        assert_eq!(finish(start + sum(icmp)), 0, "wrong ICMP checksum: {frame:02x?}");
        let reply = match (v6, icmp[0], icmp[1]) {
            (false, 8, 0) | (true, 128, 0) => false,
            (false, 0, 0) | (true, 129, 0) => true,
            (_, kind, code) => panic!("type {kind} code {code} is no echo: {frame:02x?}"),
        };
        let body = icmp[4..].to_vec();
        Self { src: header.src, dst: header.dst, ttl: header.ttl, reply, body }
    }
}

/// The frame cut into fragments with `size` bytes behind their headers each, a multiple of eight.
pub fn cut(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    const MORE: u16 = 0x2000;
    let v6 = frame[ETHERNET] >> 4 == 6;
    let header = ETHERNET + if v6 { 40 } else { 20 };
    let whole = &frame[header..];
    // Another connection's datagrams have another identification.
    let port = |at: usize| u16::from_be_bytes([whole[at], whole[at + 1]]);
    let id = port(0).wrapping_add(port(2)).to_be_bytes();
    let piece = |(number, bytes): (usize, &[u8])| {
        let offset = number * size;
        let last = offset + bytes.len() == whole.len();
        let mut out = frame[..header].to_vec();
        if v6 {
            out[18..20].copy_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
            out[20] = 44;
            out.extend([frame[20], 0]);
            out.extend((offset as u16 | u16::from(!last)).to_be_bytes());
            out.extend([0xc0, 1, id[0], id[1]]);
        } else {
            out[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            let place = (offset as u16 / 8) | if last { 0 } else { MORE };
            out[20..22].copy_from_slice(&place.to_be_bytes());
            out[18..20].copy_from_slice(&id);
            out[24..26].fill(0);
            let check = finish(sum(&out[ETHERNET..]));
            out[24..26].copy_from_slice(&check.to_be_bytes());
        }
        out.extend(bytes);
        out
    };
    whole.chunks(size).enumerate().map(piece).collect()
}

/// What `cut` cut, from its pieces in order, all of which must agree.
#[track_caller]
pub fn join(pieces: &[Vec<u8>]) -> Vec<u8> {
    let v6 = pieces[0][ETHERNET] >> 4 == 6;
    let header = ETHERNET + if v6 { 40 } else { 20 };
    let skip = header + if v6 { 8 } else { 0 };
    let mut out = pieces[0][..header].to_vec();
    for piece in pieces {
        let (parsed, _) = ip(piece);
        let (first, _) = ip(&pieces[0]);
        assert_eq!((parsed.src, parsed.dst, parsed.ttl), (first.src, first.dst, first.ttl));
        out.extend(&piece[skip..]);
    }
    let length = (out.len() - header) as u16;
    if v6 {
        out[18..20].copy_from_slice(&length.to_be_bytes());
        out[20] = pieces[0][header];
    } else {
        out[16..18].copy_from_slice(&(20 + length).to_be_bytes());
        out[20..22].fill(0);
        out[24..26].fill(0);
        let check = finish(sum(&out[ETHERNET..header]));
        out[24..26].copy_from_slice(&check.to_be_bytes());
    }
    out
}
