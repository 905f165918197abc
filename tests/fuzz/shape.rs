// SPDX-License-Identifier: Apache-2.0
//! What may lie between an IP header and what it carries.

use fastrand::Rng;

use super::random::{once_in, pick};
use super::view::FRAGMENT;

/// Options of an IPv4 header, 40 bytes at most: nothing, a route that is recorded (7) or asked for (131,
/// 137), a timestamp (68), a router alert (148), or noise, filled up to whole words.
pub fn options(rng: &mut Rng) -> Vec<u8> {
    let room = rng.usize(1..=10) * 4;
    let kind = pick(rng, &[1, 1, 7, 131, 137, 68, 148, 0, 255]);
    let length = if kind == 148 { 4 } else { rng.usize(3..=room.max(3)) };
    let mut options = match kind {
        1 => vec![1; room],
        0 => vec![0; room],
        255 => (0..room).map(|_| rng.u8(..)).collect(),
        _ => vec![kind, length as u8, 4],
    };
    // Ours are made elsewhere, with what they say.
    if options[0] == 0x9a {
        options[0] = 1;
    }
    options.resize(room, rng.u8(..) & 1);
    options
}

/// The extension headers of an IPv6 packet in front of `proto`, and what its header names as next: up
/// to three of hop-by-hop and destination options, routing and authentication, and a `fragment`'s.
pub fn extensions(rng: &mut Rng, proto: u8, fragment: Option<(u16, bool)>) -> (Vec<u8>, u8) {
    let mut chain = Vec::new();
    if once_in(rng, 12) {
        chain.extend((0..rng.usize(1..=3)).map(|_| pick(rng, &[0, 43, 60, 51])));
    }
    if fragment.is_some() {
        chain.insert(rng.usize(..=chain.len()), FRAGMENT);
    }
    let mut bytes = Vec::new();
    for (at, kind) in chain.iter().enumerate() {
        let next = chain.get(at + 1).copied().unwrap_or(proto);
        match *kind {
            FRAGMENT => {
                let (offset, more) = fragment.unwrap_or_default();
                bytes.extend([next, 0]);
                bytes.extend(((offset << 3) | u16::from(more)).to_be_bytes());
                bytes.extend([0, 0, 0, rng.u8(..4)]);
            }
            // Its length is in words of four bytes, less two.
            51 => bytes.extend([next, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9]),
            43 => bytes.extend([next, 0, 4, 0, 0, 0, 0, 0]),
            _ => bytes.extend([next, 0, 1, 4, 0, 0, 0, 0]),
        }
    }
    (bytes, chain.first().copied().unwrap_or(proto))
}
