// SPDX-License-Identifier: Apache-2.0
//! What a frame says, read without trusting it.

use std::net::{IpAddr, SocketAddr};

pub const ETHERNET: usize = 14;
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const FRAGMENT: u8 = 44;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;

/// One end of a tuple. Without ports, the port is 0.
pub type Ends = (SocketAddr, SocketAddr);

#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub frame: &'a [u8],
    pub v6: bool,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    /// Of what lies at `l4`; behind a fragment header too.
    pub proto: u8,
    /// Offset into the frame.
    pub l4: usize,
    pub fragment: bool,
    pub later_fragment: bool,
}

impl<'a> View<'a> {
    /// None unless the frame has a whole IP header.
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        match (frame.get(12..14)?, frame.get(ETHERNET)? >> 4) {
            ([0x08, 0x00], 4) => Self::v4(frame),
            ([0x86, 0xdd], 6) => Self::v6(frame),
            _ => None,
        }
    }

    fn v4(frame: &'a [u8]) -> Option<Self> {
        let ip = frame.get(ETHERNET..ETHERNET + 20)?;
        let length = usize::from(ip[0] & 15) * 4;
        let offset = u16::from_be_bytes([ip[6], ip[7]]);
        (length >= 20).then_some(Self {
            frame,
            v6: false,
            src: <[u8; 4]>::try_from(&ip[12..16]).unwrap().into(),
            dst: <[u8; 4]>::try_from(&ip[16..20]).unwrap().into(),
            ttl: ip[8],
            proto: ip[9],
            l4: ETHERNET + length,
            fragment: offset & 0x3fff != 0,
            later_fragment: offset & 0x1fff != 0,
        })
    }

    fn v6(frame: &'a [u8]) -> Option<Self> {
        let ip = frame.get(ETHERNET..ETHERNET + 40)?;
        let mut view = Self {
            frame,
            v6: true,
            src: <[u8; 16]>::try_from(&ip[8..24]).unwrap().into(),
            dst: <[u8; 16]>::try_from(&ip[24..40]).unwrap().into(),
            ttl: ip[7],
            proto: ip[6],
            l4: ETHERNET + 40,
            fragment: false,
            later_fragment: false,
        };
        if view.proto == FRAGMENT
            && let Some(header) = frame.get(view.l4..view.l4 + 8)
        {
            view.fragment = true;
            view.later_fragment = u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0;
            view.proto = header[0];
            view.l4 += 8;
        }
        Some(view)
    }

    /// Of the IP packet, as its header says.
    pub fn length(&self) -> usize {
        let at = ETHERNET + if self.v6 { 4 } else { 2 };
        let field = usize::from(u16::from_be_bytes([self.frame[at], self.frame[at + 1]]));
        if self.v6 { 40 + field } else { field }
    }

    pub fn has_ports(&self) -> bool {
        matches!(self.proto, TCP | UDP | SCTP)
            && !self.later_fragment
            && self.frame.len() >= self.l4 + 4
    }

    pub fn ends(&self) -> Ends {
        let port = |at: usize| {
            if self.has_ports() {
                u16::from_be_bytes([self.frame[self.l4 + at], self.frame[self.l4 + at + 1]])
            } else {
                0
            }
        };
        (SocketAddr::new(self.src, port(0)), SocketAddr::new(self.dst, port(2)))
    }

    /// Whether the packet may begin something new: anything but what a TCP connection has later.
    pub fn opens(&self) -> bool {
        let flags = self.frame.get(self.l4 + 13).copied().unwrap_or(0);
        self.proto != TCP || flags & 0x12 == 0x02
    }

    /// Offset of the L4 checksum, where the frame has it whole.
    pub fn checksum_at(&self) -> Option<usize> {
        let at = self.l4
            + match self.proto {
                TCP => 16,
                UDP => 6,
                ICMP | ICMPV6 => 2,
                _ => return None,
            };
        (!self.later_fragment && self.frame.len() >= at + 2).then_some(at)
    }

    /// What the IPv4 header sums to: 0xffff when its checksum is right.
    pub fn header_residue(&self) -> u16 {
        let end = (ETHERNET + usize::from(self.frame[ETHERNET] & 15) * 4).min(self.frame.len());
        if self.v6 { 0xffff } else { fold(sum(&self.frame[ETHERNET..end])) }
    }

    /// What pseudo header and L4 bytes sum to. Equal before and after a translation: what was
    /// right stays right, what was wrong stays wrong by as much.
    pub fn residue(&self) -> u16 {
        let address = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => sum(&v4.octets()),
            IpAddr::V6(v6) => sum(&v6.octets()),
        };
        let pseudo = if self.proto == ICMP { 0 } else { address(self.src) + address(self.dst) };
        fold(pseudo + sum(&self.frame[self.l4.min(self.frame.len())..]))
    }

    /// The frame without what a translation may change.
    pub fn rest(&self) -> Vec<u8> {
        let mut rest = self.frame.to_vec();
        let mut clear = |from: usize, to: usize| {
            let to = to.min(rest.len());
            if from < to {
                rest[from..to].fill(0);
            }
        };
        clear(0, 12);
        if self.v6 {
            clear(ETHERNET + 7, ETHERNET + 40);
        } else {
            clear(ETHERNET + 8, ETHERNET + 9);
            clear(ETHERNET + 10, ETHERNET + 20);
        }
        if self.has_ports() {
            clear(self.l4, self.l4 + 4);
        }
        if let Some(at) = self.checksum_at() {
            clear(at, at + 2);
        }
        if self.proto == SCTP && !self.later_fragment {
            clear(self.l4 + 8, self.l4 + 12);
        }
        rest
    }
}

/// One's-complement sum in network order, not folded.
pub fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum()
}

/// The two forms of zero are one.
pub fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if sum == 0 { 0xffff } else { sum as u16 }
}
