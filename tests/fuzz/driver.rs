// SPDX-License-Identifier: Apache-2.0
//! The driver hook: a frame goes up as it came, or is sent from there as the right translation.

use super::check::same_rest;
use super::entry::Entry;
use super::judge::{Fate, How, Judge};
use super::view::{ETHERNET, View};
use super::world::{NODE_MAC, ROUTER_MAC, Wire};

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// The tags of a frame, at most two, and the frame without them.
pub fn untag(frame: &[u8]) -> (&[u8], Vec<u8>) {
    let mut end = 12;
    while end < 20 && matches!(frame.get(end..end + 4), Some([0x81, 0, ..] | [0x88, 0xa8, ..])) {
        end += 4;
    }
    (&frame[12..end], [&frame[..12], &frame[end..]].concat())
}

impl Judge {
    /// What became of `input`, which came in on `wire`, or what is wrong with it.
    pub fn judge_driver(
        &mut self,
        wire: Wire,
        input: &[u8],
        action: u32,
        output: &[u8],
    ) -> Result<Fate, String> {
        if action == XDP_PASS {
            let same = input == output;
            return if same { Ok(Fate::Up) } else { Err("changed, and passed up".to_owned()) };
        }
        let (tags, plain) = untag(input);
        let (kept, sent) = untag(output);
        if tags != kept {
            return Err(format!("the tags {tags:02x?} became {kept:02x?}"));
        }
        // Every way out of the node leads through the uplink.
        let device = wire.device(tags).ok_or("sent for a VLAN that nobody here has")?;
        let right = match device {
            Wire::Uplink => XDP_TX,
            Wire::Second if tags.is_empty() => XDP_REDIRECT,
            _ => return Err("sent out of a device that the tags do not fit".to_owned()),
        };
        if action != right {
            return Err(format!("action {action} in place of {right}"));
        }
        if plain[..6] != NODE_MAC {
            return Err("somebody else's frame was sent on".to_owned());
        }
        if sent[..ETHERNET - 2] != [ROUTER_MAC, NODE_MAC].concat() {
            return Err("not from the node to the router".to_owned());
        }
        let (Some(before), Some(after)) = (View::of(&plain), View::of(&sent)) else {
            return Err("no IP packet, yet it was sent".to_owned());
        };
        let fate = if action == XDP_TX { Fate::Sent } else { Fate::Redirected };
        if self.dispatched(&before, &sent)? {
            let plain = tags.is_empty();
            return if plain { Ok(fate) } else { Err("grew behind a tag".to_owned()) };
        }
        same_rest(&before, &after)?;
        if before.ttl < 2 || after.ttl != before.ttl - 1 {
            return Err(format!("sent on, and TTL {} became {}", before.ttl, after.ttl));
        }
        if before.ends() == after.ends() {
            return Err("sent on, and not translated".to_owned());
        }
        self.translation(Entry::FromNetdev, &before, &after, How::Plain)?;
        Ok(fate)
    }
}
