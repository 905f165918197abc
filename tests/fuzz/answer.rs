// SPDX-License-Identifier: Apache-2.0
//! What a program may say to a packet's sender itself.

use super::check::sums_up;
use super::view::{ETHERNET, ICMP, ICMPV6, UDP, View, fold, sum};

const ARP: [u8; 2] = [0x08, 0x06];

/// Whether `output` answers `input`: ARP, neighbour advertisement, echo reply, or an ICMP error.
pub fn is_answer(input: &[u8], output: &[u8]) -> bool {
    if input.get(12..14) == Some(&ARP) {
        return output.get(20..22) == Some(&[0, 2])
            && output.get(32..42) == input.get(22..32)
            && output.get(28..32) == input.get(38..42);
    }
    let (Some(before), Some(after)) = (View::of(input), View::of(output)) else {
        return false;
    };
    let own = if after.v6 { ICMPV6 } else { ICMP };
    if after.proto != own || after.dst != before.src || output.len() < after.l4 + 8 {
        return false;
    }
    let icmp = &output[after.l4..];
    let asked = input.get(before.l4).copied().filter(|_| before.proto == own);
    match (icmp[0], asked) {
        (0, Some(8)) | (129, Some(128)) => {
            // What was wrong in the question is as wrong in the answer.
            after.src == before.dst
                && icmp[4..] == input[before.l4 + 4..]
                && after.residue() == before.residue()
                && after.header_residue() == before.header_residue()
        }
        _ if !checksums_right(&after) => false,
        (136, Some(135)) => true,
        (kind, _) => {
            let from = after.src == before.dst;
            from && is_error(kind, icmp[1], after.v6) && quotes(&before, &icmp[8..])
        }
    }
}

fn checksums_right(view: &View<'_>) -> bool {
    let start = if view.v6 { ETHERNET + 8 } else { view.l4 };
    let length = view.frame.len() - view.l4;
    let pseudo = if view.v6 { u32::from(ICMPV6) + length as u32 } else { 0 };
    view.header_residue() == 0xffff && sums_up(pseudo, &view.frame[start..])
}

/// Port unreachable, TTL expired, too big.
fn is_error(kind: u8, code: u8, v6: bool) -> bool {
    if v6 {
        matches!((kind, code), (1, 4) | (3, 0) | (2, 0))
    } else {
        matches!((kind, code), (3, 3 | 4) | (11, 0))
    }
}

/// Whether `quote` is the start of the packet, up to a checksum that the stack may yet fill in.
fn quotes(before: &View<'_>, quote: &[u8]) -> bool {
    let header = before.l4 - ETHERNET;
    let sure = header + if before.proto == UDP { 6 } else { 8 };
    let (Some(quote), Some(sent)) = (quote.get(..sure), before.frame.get(ETHERNET..)) else {
        return false;
    };
    // The two forms of a zero checksum are one.
    let sum_at = if before.v6 { 0..0 } else { 10..12 };
    let differs = |at: &usize| quote[*at] != sent[*at] && !sum_at.contains(at);
    let summed = before.v6 || fold(sum(&quote[..header])) == before.header_residue();
    sent.len() >= sure && !(0..sure).any(|at| differs(&at)) && summed
}
