// SPDX-License-Identifier: Apache-2.0
//! The options and outer headers of direct server return, read as docs/design.md describes them.

use std::net::{IpAddr, SocketAddr};

use super::view::{ETHERNET, Ends, SCTP, TCP, UDP, View, fold, sum};
use super::world::KEYS;
use crate::support::dsr::siphash;

/// Behind the fixed part of the IP header.
const OPTION_V4: usize = ETHERNET + 20;
const OPTION_V6: usize = ETHERNET + 40;

/// Sizes of the plain form and of the own form, IPv6's with the header around it.
pub const SIZES_V4: [usize; 2] = [8, 16];
pub const SIZES_V6: [usize; 2] = [24, 32];

/// What an option says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    pub service: SocketAddr,
    pub client_port: u16,
    /// Bytes that it takes.
    pub size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Carried {
    /// No option of ours, or a packet too short to hold one.
    Nothing,
    /// One whose fields contradict each other, or that a stranger wrote.
    Wrong,
    Right(Mark),
}

/// A frame that this node has sent, without its option.
pub fn bare(frame: &[u8]) -> Vec<u8> {
    match carried(frame, &KEYS, true) {
        Carried::Right(mark) => strip(frame, mark.size),
        _ => frame.to_vec(),
    }
}

/// The option that `frame` carries, right if one of `keys` made its tag, or where the `plain` form,
/// which has no tag, is read.
pub fn carried(frame: &[u8], keys: &[[u8; 16]], plain: bool) -> Carried {
    let found = View::of(frame).and_then(|view| read(&view, frame));
    let Some((view, option)) = found else {
        return Carried::Nothing;
    };
    let ends = view.ends();
    let Some(mark) = option.filter(|_| view.has_ports() && ends.0.port() != 0) else {
        return Carried::Wrong;
    };
    let sizes = if view.v6 { SIZES_V6 } else { SIZES_V4 };
    if view.fragment {
        return Carried::Wrong;
    }
    if mark.size == sizes[0] {
        let mark = Mark { client_port: ends.0.port(), ..mark };
        return if plain { Carried::Right(mark) } else { Carried::Wrong };
    }
    let at = if view.v6 { OPTION_V6 } else { OPTION_V4 } + mark.size;
    let room = if view.v6 { 8 } else { 6 };
    let right = keys.iter().any(|key| {
        tag(key, view.proto, ends, mark.service, mark.client_port)[..room] == frame[at - room..at]
    });
    if right { Carried::Right(mark) } else { Carried::Wrong }
}

/// The packet behind an option of ours, and what that says where its lengths are right. None where
/// there is none, or not the whole of it and of the ports.
fn read<'a>(view: &View<'a>, frame: &'a [u8]) -> Option<(View<'a>, Option<Mark>)> {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let mut view = *view;
    let mark = if frame[ETHERNET] >> 4 == 6 {
        let option = frame.get(OPTION_V6..OPTION_V6 + SIZES_V6[0]).filter(|_| frame[20] == 60)?;
        if option[2] != 0x1b {
            return None;
        }
        view.proto = option[0];
        view.l4 = OPTION_V6 + (usize::from(option[1]) + 1) * 8;
        let size = usize::from(option[3]) + 4;
        let whole = SIZES_V6.contains(&size) && OPTION_V6 + size == view.l4;
        let vip = <[u8; 16]>::try_from(&option[4..20]).unwrap();
        let service = SocketAddr::new(vip.into(), port(OPTION_V6 + 20));
        whole.then(|| Mark { service, client_port: port(OPTION_V6 + 22), size })
    } else {
        let option = frame.get(OPTION_V4..OPTION_V4 + SIZES_V4[0])?;
        if view.l4 == OPTION_V4 || option[0] != 0x9a {
            return None;
        }
        let size = usize::from(option[1]);
        let whole = SIZES_V4.contains(&size) && OPTION_V4 + size <= view.l4.min(frame.len());
        let vip = <[u8; 4]>::try_from(&option[4..8]).unwrap();
        let service = SocketAddr::new(vip.into(), port(OPTION_V4 + 2));
        let client_port = |_| if size > 8 { port(OPTION_V4 + 8) } else { 0 };
        whole.then_some(()).map(client_port).map(|client_port| Mark { service, client_port, size })
    };
    let need = match view.proto {
        TCP => 14,
        UDP | SCTP => 4,
        _ => 0,
    };
    (frame.len() >= view.l4 + need).then_some((view, mark))
}

/// SipHash over the addresses of service, client and backend, the ports of service and client, the
/// packet's own, and the protocol.
pub fn tag(
    key: &[u8; 16],
    proto: u8,
    ends: Ends,
    service: SocketAddr,
    client_port: u16,
) -> [u8; 8] {
    let mut message = Vec::new();
    for address in [service.ip(), ends.0.ip(), ends.1.ip()] {
        match address {
            IpAddr::V4(v4) => message.extend(v4.octets()),
            IpAddr::V6(v6) => message.extend(v6.octets()),
        }
    }
    for port in [service.port(), client_port, ends.0.port(), ends.1.port()] {
        message.extend(port.to_be_bytes());
    }
    message.push(proto);
    siphash(key, &message).to_le_bytes()
}

/// `frame` without the first `size` bytes behind its IP header; a wrong header checksum is as wrong.
pub fn strip(frame: &[u8], size: usize) -> Vec<u8> {
    let mut out = frame.to_vec();
    let v6 = frame[ETHERNET] >> 4 == 6;
    let (at, length_at) = if v6 { (OPTION_V6, 18) } else { (OPTION_V4, 16) };
    let length = u16::from_be_bytes([frame[length_at], frame[length_at + 1]]);
    let option: Vec<u8> = out.drain(at..at + size).collect();
    out[length_at..length_at + 2].copy_from_slice(&length.wrapping_sub(size as u16).to_be_bytes());
    if v6 {
        out[20] = option[0];
        return out;
    }
    out[ETHERNET] -= (size / 4) as u8;
    keep_sum(frame, &mut out);
    out
}

/// Makes the IPv4 header of `out` sum up as that of `frame`.
fn keep_sum(frame: &[u8], out: &mut [u8]) {
    let header = |frame: &[u8]| ETHERNET..ETHERNET + usize::from(frame[ETHERNET] & 15) * 4;
    let before = fold(sum(&frame[header(frame)]));
    out[24..26].fill(0);
    let without = fold(sum(&out[header(out)]));
    let check = fold(u32::from(before) + u32::from(!without));
    out[24..26].copy_from_slice(&if check == 0xffff { [0, 0] } else { check.to_be_bytes() });
}

/// `frame`, which has ports, between other ends. Its L4 checksum is left as it is.
pub fn readdress(frame: &[u8], ends: Ends) -> Vec<u8> {
    let mut out = frame.to_vec();
    let Some(view) = View::of(frame) else {
        return out;
    };
    out[view.l4..view.l4 + 2].copy_from_slice(&ends.0.port().to_be_bytes());
    out[view.l4 + 2..view.l4 + 4].copy_from_slice(&ends.1.port().to_be_bytes());
    match (ends.0.ip(), ends.1.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            out[26..30].copy_from_slice(&source.octets());
            out[30..34].copy_from_slice(&target.octets());
            keep_sum(frame, &mut out);
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            out[22..38].copy_from_slice(&source.octets());
            out[38..54].copy_from_slice(&target.octets());
        }
        _ => {}
    }
    out
}

/// A packet in a packet, where the inner one has ports and neither is a fragment.
#[derive(Clone, Debug)]
pub struct Wrapped {
    pub from: IpAddr,
    pub to: IpAddr,
    /// The backend's, from IPv4's identification or IPv6's flow label.
    pub port: u16,
    /// A frame again.
    pub inner: Vec<u8>,
}

impl Wrapped {
    /// None where the outer header has options.
    pub fn of(frame: &[u8]) -> Option<Self> {
        Self::any(frame).filter(|_| frame[ETHERNET] >> 4 == 6 || frame[ETHERNET] == 0x45)
    }

    pub fn any(frame: &[u8]) -> Option<Self> {
        let outer = View::of(frame)?;
        let (size, port_at) = if outer.v6 { (40, 16) } else { (20, 18) };
        let inner = [&frame[..ETHERNET], frame.get(ETHERNET + size..)?].concat();
        if outer.proto != if outer.v6 { 41 } else { 4 } || outer.fragment {
            return None;
        }
        let view = View::of(&inner)?;
        (view.v6 == outer.v6 && !view.fragment && view.has_ports()).then(|| Self {
            from: outer.src,
            to: outer.dst,
            port: u16::from_be_bytes([frame[port_at], frame[port_at + 1]]),
            inner: inner.clone(),
        })
    }
}
