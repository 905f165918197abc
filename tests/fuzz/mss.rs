// SPDX-License-Identifier: Apache-2.0
//! The maximum segment size that a SYN announces, lowered where dispatching takes room.

use super::view::{TCP, View, fold, sum};

/// Options that are looked at: more of them only padding would take.
const STEPS: usize = 16;

/// `frame` as it is when it announces `most` at most; None where it announces no more than that.
pub fn clamped(view: &View<'_>, most: u16) -> Option<Vec<u8>> {
    let at = place(view)?;
    let mut frame = view.frame.to_vec();
    if u16::from_be_bytes([frame[at], frame[at + 1]]) <= most {
        return None;
    }
    let before = fold(sum(&frame[view.l4..]));
    frame[at..at + 2].copy_from_slice(&most.to_be_bytes());
    let check = view.l4 + 16..view.l4 + 18;
    frame[check.clone()].fill(0);
    let without = fold(sum(&frame[view.l4..]));
    let value = fold(u32::from(before) + u32::from(!without));
    frame[check].copy_from_slice(&value.to_be_bytes());
    Some(frame)
}

/// Where the value of a SYN's option lies.
fn place(view: &View<'_>) -> Option<usize> {
    let tcp = view.frame.get(view.l4..)?;
    if view.proto != TCP || view.fragment || tcp.len() < 20 || tcp[13] & 2 == 0 {
        return None;
    }
    let options = &tcp[20..(usize::from(tcp[12] >> 4) * 4).clamp(20, tcp.len())];
    let mut at = 0;
    for _ in 0..STEPS {
        match *options.get(at)? {
            0 => return None,
            1 => at += 1,
            2 => {
                let whole = options.get(at + 1) == Some(&4) && options.len() >= at + 4;
                return whole.then_some(view.l4 + 20 + at + 2);
            }
            _ => at += usize::from(*options.get(at + 1).filter(|length| **length >= 2)?),
        }
    }
    None
}
