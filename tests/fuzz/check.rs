// SPDX-License-Identifier: Apache-2.0
//! What holds for every translation, whoever asked for it: the rest as it was, checksums right.

use super::view::{ETHERNET, SCTP, UDP, View, fold, sum};

/// Everything besides addresses, ports, TTL and checksums is as it was, and the checksums fit.
pub fn same_rest(before: &View<'_>, after: &View<'_>) -> Result<(), String> {
    if before.rest() != after.rest() {
        return Err("something besides addresses and ports changed".to_owned());
    }
    if after.ttl != before.ttl && Some(after.ttl) != before.ttl.checked_sub(1) {
        return Err(format!("TTL {} became {}", before.ttl, after.ttl));
    }
    if before.header_residue() != after.header_residue() {
        return Err("the IPv4 header checksum does not fit".to_owned());
    }
    if let Some(at) = before.checksum_at() {
        let none = |view: &View<'_>| before.proto == UDP && view.frame[at..at + 2] == [0, 0];
        if none(before) {
            if !none(after) {
                return Err("a datagram without a checksum got one".to_owned());
            }
        } else if before.residue() != after.residue() {
            return Err("the L4 checksum does not fit".to_owned());
        }
    }
    // What lies behind the IP packet is padding of the frame.
    let crc_right = |view: &View<'_>| {
        let ip = &view.frame[ETHERNET..];
        let end = if view.v6 {
            40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]))
        } else {
            usize::from(u16::from_be_bytes([ip[2], ip[3]]))
        };
        let l4 = view.frame.get(view.l4..ETHERNET + end).unwrap_or_default();
        l4.len() >= 12 && crc32c(l4).to_le_bytes() == l4[8..12]
    };
    if before.proto == SCTP && crc_right(before) && !crc_right(after) {
        return Err("the SCTP checksum does not fit".to_owned());
    }
    Ok(())
}

/// CRC32c over an SCTP packet, its checksum field taken as zero (RFC 9260 appendix A).
pub fn crc32c(packet: &[u8]) -> u32 {
    let field = |at: usize| (8..12).contains(&at);
    let bytes = packet.iter().enumerate().map(|(at, byte)| if field(at) { 0 } else { *byte });
    !bytes.fold(!0_u32, |mut crc, byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
        crc
    })
}

/// Whether `bytes`, which hold their own checksum, sum up as they must.
pub fn sums_up(start: u32, bytes: &[u8]) -> bool {
    fold(start + sum(bytes)) == 0xffff
}
