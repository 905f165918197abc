// SPDX-License-Identifier: Apache-2.0
//! The options and encapsulations of direct server return, built and read byte by byte from their
//! description in docs/design.md, independently of the datapath's own code.

use std::net::{IpAddr, SocketAddr};

use super::packet::Packet;

pub const KEY: [u8; 16] = *b"a key for tests!";

const ETHERNET: usize = 14;

/// What an option says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    pub service: SocketAddr,
    /// What the client sent from; the packet may come from another port. `None` in the plain form.
    pub client_port: Option<u16>,
}

/// SipHash-2-4, from the paper of its authors.
pub fn siphash(key: &[u8; 16], message: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ u64::from_be_bytes(*b"somepseu"),
        k1 ^ u64::from_be_bytes(*b"dorandom"),
        k0 ^ u64::from_be_bytes(*b"lygenera"),
        k1 ^ u64::from_be_bytes(*b"tedbytes"),
    ];
    fn round(v: &mut [u64; 4]) {
        for (a, b, c, d, s, t) in [(0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)] {
            v[a] = v[a].wrapping_add(v[b]);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = v[b].rotate_left(s) ^ v[a];
            v[d] = v[d].rotate_left(t) ^ v[c];
            v[a] = v[a].rotate_left(32);
        }
    }
    let mut padded = message.to_vec();
    padded.resize(message.len() / 8 * 8 + 7, 0);
    padded.push(message.len() as u8);
    for block in padded.chunks(8) {
        v[3] ^= word(block);
        round(&mut v);
        round(&mut v);
        v[0] ^= word(block);
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The tag of `mark` on `packet`, as it goes from client to backend.
pub fn tag(key: &[u8; 16], packet: &Packet, mark: &Mark) -> [u8; 8] {
    let client_port = mark.client_port.unwrap();
    let message = [
        octets(mark.service.ip()),
        octets(packet.src.ip()),
        octets(packet.dst.ip()),
        mark.service.port().to_be_bytes().to_vec(),
        client_port.to_be_bytes().to_vec(),
        packet.src.port().to_be_bytes().to_vec(),
        packet.dst.port().to_be_bytes().to_vec(),
        vec![packet.proto],
    ];
    siphash(key, &message.concat()).to_le_bytes()
}

/// The option as it stands in the header of `packet`; in IPv6 with the header around it.
pub fn option(key: &[u8; 16], packet: &Packet, mark: &Mark) -> Vec<u8> {
    let v6 = packet.src.is_ipv6();
    let port = mark.service.port().to_be_bytes();
    let mut out = Vec::new();
    if v6 {
        let length = if mark.client_port.is_some() { 28 } else { 20 };
        out.extend([packet.proto, (length + 4) / 8 - 1, 0x1b, length]);
        out.extend(octets(mark.service.ip()));
        out.extend(port);
        out.extend(mark.client_port.unwrap_or(0).to_be_bytes());
    } else {
        out.extend([0x9a, if mark.client_port.is_some() { 16 } else { 8 }]);
        out.extend(port);
        out.extend(octets(mark.service.ip()));
        out.extend(mark.client_port.map_or(vec![], |port| port.to_be_bytes().to_vec()));
    }
    if mark.client_port.is_some() {
        out.extend(&tag(key, packet, mark)[..if v6 { 8 } else { 6 }]);
    }
    out
}

/// The tunnel option that `packet` has with it in Geneve.
pub fn tunnel_option(key: &[u8; 16], packet: &Packet, mark: &Mark) -> Vec<u8> {
    let mut fields = octets(mark.service.ip());
    fields.extend(mark.service.port().to_be_bytes());
    fields.extend(mark.client_port.unwrap_or(0).to_be_bytes());
    if mark.client_port.is_some() {
        fields.extend(tag(key, packet, mark));
    }
    [&[1, 0x4b, 0x81, (fields.len() / 4) as u8], fields.as_slice()].concat()
}

/// The frame of `packet` with `option` behind its IP header.
pub fn with_option(packet: &Packet, option: &[u8]) -> Vec<u8> {
    insert(&packet.bytes(), option)
}

/// `frame` with `option` behind the fixed part of its IP header.
pub fn insert(frame: &[u8], option: &[u8]) -> Vec<u8> {
    let v6 = frame[ETHERNET] >> 4 == 6;
    let header = ETHERNET + if v6 { 40 } else { 20 };
    let mut out = frame.to_vec();
    out.splice(header..header, option.iter().copied());
    let length_at = if v6 { 18 } else { 16 };
    let length = u16::from_be_bytes([frame[length_at], frame[length_at + 1]]);
    let length = length + option.len() as u16;
    out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    if v6 {
        out[20] = 60;
    } else {
        out[ETHERNET] += (option.len() / 4) as u8;
        write_header_checksum(&mut out);
    }
    out
}

/// Takes the first option, or the destination options header, out of a frame; `None` if it has none.
#[track_caller]
pub fn take(frame: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let v6 = frame[ETHERNET] >> 4 == 6;
    let header = ETHERNET + if v6 { 40 } else { 20 };
    if if v6 { frame[20] != 60 } else { frame[ETHERNET] == 0x45 } {
        return None;
    }
    let size = if v6 {
        (usize::from(frame[header + 1]) + 1) * 8
    } else {
        let ihl = usize::from(frame[ETHERNET] & 0xf) * 4;
        assert_eq!(header_sum(&frame[ETHERNET..ETHERNET + ihl]), 0xffff, "{frame:02x?}");
        usize::from(frame[header + 1])
    };
    let mut out = frame.to_vec();
    let option: Vec<u8> = out.drain(header..header + size).collect();
    let length_at = if v6 { 18 } else { 16 };
    let length = u16::from_be_bytes([frame[length_at], frame[length_at + 1]]) - size as u16;
    out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    if v6 {
        out[20] = option[0];
    } else {
        out[ETHERNET] -= (size / 4) as u8;
        write_header_checksum(&mut out);
    }
    Some((out, option))
}

/// Reads a frame that must carry an option of the own form with the right tag, and nothing else.
#[track_caller]
pub fn parse(key: &[u8; 16], frame: &[u8]) -> (Packet, Mark) {
    let (plain, bytes) = take(frame).unwrap_or_else(|| panic!("no option: {frame:02x?}"));
    let packet = Packet::parse(&plain);
    let mark = read(&bytes, packet.src.is_ipv6());
    assert_eq!(bytes, option(key, &packet, &mark), "{packet:?}, {mark:?}");
    (packet, mark)
}

fn read(bytes: &[u8], v6: bool) -> Mark {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    if v6 {
        let vip = <[u8; 16]>::try_from(&bytes[4..20]).unwrap();
        let client_port = (bytes.len() > 24).then(|| port(22));
        Mark { service: SocketAddr::new(vip.into(), port(20)), client_port }
    } else {
        let vip = <[u8; 4]>::try_from(&bytes[4..8]).unwrap();
        let client_port = (bytes.len() > 8).then(|| port(8));
        Mark { service: SocketAddr::new(vip.into(), port(2)), client_port }
    }
}

/// Without complement: 0xffff over a header whose checksum is right.
fn header_sum(header: &[u8]) -> u16 {
    let mut sum: u32 =
        header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Of the IPv4 header of a frame, options included.
pub fn write_header_checksum(frame: &mut [u8]) {
    let end = ETHERNET + usize::from(frame[ETHERNET] & 0xf) * 4;
    frame[24..26].fill(0);
    let check = !header_sum(&frame[ETHERNET..end]);
    frame[24..26].copy_from_slice(&check.to_be_bytes());
}

/// The frame of a SYN whose TCP options are `padding` times NOP, its MSS, and NOPs up to a word.
pub fn with_mss(packet: &Packet, padding: usize, mss: u16) -> Vec<u8> {
    let mut options = vec![1; padding];
    options.extend([2, 4]);
    options.extend(mss.to_be_bytes());
    options.resize(options.len().next_multiple_of(4), 1);
    let words = (options.len() / 4) as u8;
    options.extend(&packet.payload);
    let mut frame = Packet { payload: options, ..packet.clone() }.bytes();
    let tcp = ETHERNET + if packet.src.is_ipv6() { 40 } else { 20 };
    frame[tcp + 12] += words << 4;
    let check = u16::from_be_bytes([frame[tcp + 16], frame[tcp + 17]]);
    let sum = u32::from(!check) + (u32::from(words) << 12);
    let check = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[tcp + 16..tcp + 18].copy_from_slice(&check.to_be_bytes());
    frame
}

/// The MSS that a packet made by [`with_mss`] announces; its checksum was looked at when it was read.
pub fn mss(packet: &Packet, padding: usize) -> u16 {
    assert_eq!(packet.payload[padding..padding + 2], [2, 4], "{packet:?}");
    u16::from_be_bytes([packet.payload[padding + 2], packet.payload[padding + 3]])
}

/// The frame of `inner` in IPIP or IP6IP6 from `src` to `dst`, with the backend's `port`.
pub fn encapsulate(inner: &[u8], src: IpAddr, dst: IpAddr, port: u16) -> Vec<u8> {
    let payload = &inner[ETHERNET..];
    let mut out = inner[..ETHERNET].to_vec();
    if src.is_ipv6() {
        out.extend([0x60, 0]);
        out.extend(port.to_be_bytes());
        out.extend((payload.len() as u16).to_be_bytes());
        out.extend([41, 64]);
    } else {
        out.extend([0x45, 0]);
        out.extend((20 + payload.len() as u16).to_be_bytes());
        out.extend(port.to_be_bytes());
        out.extend([0x40, 0, 64, 4, 0, 0]);
    }
    out.extend(octets(src));
    out.extend(octets(dst));
    if src.is_ipv4() {
        write_header_checksum(&mut out);
    }
    out.extend(payload);
    out
}

/// The next-hop MTU that an ICMP error tells.
pub fn told_mtu(frame: &[u8]) -> u16 {
    let at = ETHERNET + if frame[ETHERNET] >> 4 == 6 { 40 } else { 20 } + 6;
    u16::from_be_bytes([frame[at], frame[at + 1]])
}
