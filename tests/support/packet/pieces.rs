// SPDX-License-Identifier: Apache-2.0
//! Packets in fragments.

use super::{ETHERNET, finish, ip, sum};

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
