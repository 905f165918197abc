// SPDX-License-Identifier: Apache-2.0
//! Direct server return through a device to the judge, and the MTU that whoever sends too much is told.
//! What is in a tunnel option is read as docs/design.md describes it.

use std::net::SocketAddr;

use super::answer::is_answer;
use super::arrival::Arrival;
use super::check::same_rest;
use super::dispatch::MTU;
use super::dsr::{Wrapped, tag};
use super::entry::Entry;
use super::judge::{How, Judge};
use super::view::{ETHERNET, Ends, ICMP, ICMPV6, View};
use super::world::{Dispatch, KEYS, has_node, ours};
use crate::support::node::TC_REDIRECT;

/// What the device will add: IPv6, UDP and Geneve headers, the frame's own, and the option, which is
/// 4 bytes, the service's address and port, the client's port and the tag.
pub const fn overhead(v6: bool) -> usize {
    40 + 8 + 8 + ETHERNET + 4 + if v6 { 16 } else { 4 } + 2 + 2 + 8
}

/// The client's packet, as a frame, that the router of a path too narrow for IPIP quotes inside of the
/// outer one, and what that path leaves for it.
fn outer_quote(error: &[u8]) -> Option<(Vec<u8>, usize)> {
    let view = View::of(error)?;
    let icmp = &error[view.l4.min(error.len())..];
    let mtu = told(&view)?;
    let quoted = [&error[..ETHERNET], icmp.get(8..)?].concat();
    let wrapped = Wrapped::any(&quoted)?;
    let left = mtu.checked_sub(if view.v6 { 40 } else { 20 })?;
    (left > 0).then_some((wrapped.inner, left))
}

/// The MTU that an ICMP error names, if it is of that kind.
fn told(error: &View<'_>) -> Option<usize> {
    let at = match (error.proto, error.frame.get(error.l4..error.l4 + 2)?) {
        (ICMP, [3, 4]) => error.l4 + 6..error.l4 + 8,
        (ICMPV6, [2, 0]) => error.l4 + 4..error.l4 + 8,
        _ => return None,
    };
    let bytes = error.frame.get(at)?.iter();
    Some(bytes.fold(0, |mtu, byte| mtu << 8 | usize::from(*byte)))
}

/// The service and the client that a right `option` names for a packet between `ends`.
fn marked(option: &[u8], proto: u8, ends: Ends) -> Option<Ends> {
    let v6 = ends.0.is_ipv6();
    let address = if v6 { 16 } else { 4 };
    let fields = option.strip_prefix(&[0x01, 0x4b, 0x81, (address / 4 + 3) as u8])?;
    let (vip, rest) = fields.split_at_checked(address)?;
    let vip = match v6 {
        true => <[u8; 16]>::try_from(vip).unwrap().into(),
        false => <[u8; 4]>::try_from(vip).unwrap().into(),
    };
    let [a, b, c, d, carried @ ..] = rest else { return None };
    let service = SocketAddr::new(vip, u16::from_be_bytes([*a, *b]));
    let client = SocketAddr::new(ends.0.ip(), u16::from_be_bytes([*c, *d]));
    let right = |key| tag(key, proto, ends, service, client.port()) == carried;
    KEYS.iter().any(right).then_some((service, client))
}

impl Judge {
    /// What `input` is, which a tunnel brought with `option`.
    pub(super) fn emerged(&mut self, input: &[u8], option: &[u8]) -> Arrival {
        let whole = |view: &View<'_>| ours(view.dst) && view.has_ports() && !view.fragment;
        let found = View::of(input).filter(whole).and_then(|view| {
            Some((view.proto, view.ends(), marked(option, view.proto, view.ends())?))
        });
        let Some((proto, ends, answer)) = found else {
            return Arrival::Refused("what a tunnel brought without a right mark was taken");
        };
        let original = (answer.1, answer.0);
        self.whole.entry((proto, original)).or_default().insert(ends.1);
        // A backend in the node's own network gets it as it came.
        self.note_answer(proto, (ends.1, answer.1), answer);
        Arrival::Stripped(input.to_vec(), answer)
    }

    /// Whether `output` tells a client of the path to its backend that `input` speaks of.
    pub(super) fn narrowed(&self, input: &[u8], output: &[u8]) -> bool {
        let Some((inner, _)) = outer_quote(input).filter(|_| self.dispatch == Dispatch::Ipip)
        else {
            return false;
        };
        let asked = View::of(&inner).map(|view| (view.ends().1, view.proto));
        let served = asked.and_then(|asked| self.frontends.get(&asked));
        served.is_some_and(|served| served.direct) && is_answer(&inner, output)
    }

    /// Whether `after` is `before` on its way into the device, or what is wrong with it.
    pub(super) fn tunnelled(
        &mut self,
        before: &View<'_>,
        action: u32,
        after: &View<'_>,
    ) -> Result<bool, String> {
        let (proto, old, new) = (before.proto, before.ends(), after.ends());
        let served = self.frontends.get(&(old.1, proto)).filter(|served| served.direct);
        let direct = served.is_some_and(|served| served.backends.contains(&new.1))
            && old.0.ip() == new.0.ip()
            && has_node(new.1.ip());
        if self.dispatch != Dispatch::Geneve || !direct || before.fragment {
            return Ok(false);
        }
        let judged = self.entered(before, action, after);
        // A client with the node's own address keeps it as well where the node asks for it.
        if ours(old.0.ip()) && judged.is_err() {
            return Ok(false);
        }
        judged.map(|()| true)
    }

    /// As [`Self::tunnelled`], of what can be nothing else.
    fn entered(&mut self, before: &View<'_>, action: u32, after: &View<'_>) -> Result<(), String> {
        let lowered = self.lowered(before);
        let before = lowered.as_deref().and_then(View::of).unwrap_or(*before);
        let room = MTU - self.overhead(before.v6);
        if after.frame.len() - ETHERNET > room {
            return Err(format!("it is larger than the {room} bytes that the device has room for"));
        }
        // Only who sends it on to the next hop itself knows that one's address.
        if action != TC_REDIRECT || after.frame[..12] != before.frame[..12] {
            return Err(
                "what the backend's node must be told of did not enter the device".to_owned()
            );
        }
        same_rest(&before, after)?;
        if before.ttl < 2 || after.ttl != before.ttl - 1 {
            return Err(format!("TTL {} became {}", before.ttl, after.ttl));
        }
        self.translation(Entry::FromNetdev, &before, after, How::Told)?;
        // Also where a pod's own connection once went the same way.
        self.direct.insert((before.proto, before.ends(), after.ends()));
        Ok(())
    }

    /// Whether `output`, an answer to `input`, names the right MTU where it names one.
    pub(super) fn told_mtu(&self, entry: Entry, input: &[u8], output: &[u8]) -> Result<(), String> {
        let (Some(before), Some(after)) = (View::of(input), View::of(output)) else {
            return Ok(());
        };
        let Some(mtu) = told(&after) else { return Ok(()) };
        if let Some((_, left)) = outer_quote(input) {
            let right = entry == Entry::FromNetdev && mtu == left;
            return right.then_some(()).ok_or(format!("{mtu} where the path leaves {left}"));
        }
        let length = input.len() - ETHERNET;
        let served = self.frontends.get(&(before.ends().1, before.proto));
        let direct = entry == Entry::FromNetdev && served.is_some_and(|served| served.direct);
        let right = mtu == MTU || direct && mtu == MTU - self.overhead(before.v6);
        if right && length > mtu {
            return Ok(());
        }
        Err(format!("{length} bytes are too much for an MTU of {mtu}"))
    }
}
