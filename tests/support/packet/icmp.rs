// SPDX-License-Identifier: Apache-2.0
//! ICMP of both families: errors with the packet they quote, and echoes.

use std::net::{IpAddr, SocketAddr};

use super::{
    ETHERNET, ICMP, ICMPV6, NODE_MAC, PEER_MAC, Packet, finish, frame, ip, ip_lengths_ignored,
    pseudo, sum,
};

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

/// Fails unless the ICMPv6 checksum of `frame` is right.
#[track_caller]
pub fn check_icmpv6(frame: &[u8]) {
    let (header, icmp) = ip(frame);
    let whole = pseudo(header.src, header.dst, ICMPV6, icmp.len()) + sum(icmp);
    assert_eq!((header.proto, finish(whole)), (ICMPV6, 0), "wrong checksum: {frame:02x?}");
}
