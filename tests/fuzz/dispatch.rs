// SPDX-License-Identifier: Apache-2.0
//! Direct server return to the judge, at the LB node: what may be put around a packet.

use std::net::{IpAddr, SocketAddr};

use super::answer::is_answer;
use super::check::same_rest;
use super::dsr::{Carried, SIZES_V4, SIZES_V6, Wrapped, carried, readdress, strip};
use super::entry::Entry;
use super::judge::{How, Judge};
use super::mss;
use super::tunnel;
use super::view::{ETHERNET, Ends, View};
use super::world::{Dispatch, KEYS, has_node, ours};
use crate::support::dsr::encapsulate;
use crate::support::node::FAMILIES;

/// Of the uplink.
pub const MTU: usize = 1500;

impl Judge {
    /// Whether `output` answers what the sender of `input` has sent: a client knows nothing of the
    /// backend that its packet was dispatched to.
    pub(super) fn answered(&self, input: &[u8], how: How, output: &[u8]) -> bool {
        let from = |(service, client): Ends| readdress(input, (client, service));
        if let How::Marked(answer) = how {
            return is_answer(&from(answer), output);
        }
        let view = View::of(input).filter(|view| how == How::Plain && view.has_ports());
        let told = view.is_some_and(|view| {
            let ((client, backend), proto) = (view.ends(), view.proto);
            let back = (backend, client);
            let known = self.known.get(&(proto, back)).into_iter().flatten();
            let mut answers = known.filter(|to| self.answers.contains(&(proto, back, **to)));
            answers.any(|answer| is_answer(&from(*answer), output))
        });
        told || is_answer(input, output) || self.narrowed(input, output)
    }

    /// Whether `old` becomes `new` on its way to a backend that answers by itself.
    pub(super) fn is_direct(&self, proto: u8, old: Ends, new: Ends) -> bool {
        // The port towards the backend does not show on what left in a packet.
        let unseen = self.dispatch == Dispatch::Ipip && old.0.ip() == new.0.ip();
        let new = if unseen { (old.0, new.1) } else { new };
        self.direct.contains(&(proto, old, new))
    }

    pub(super) fn note_answer(&mut self, proto: u8, old: Ends, new: Ends) {
        self.note(proto, old, new);
        self.answers.insert((proto, old, new));
    }

    /// Bytes that dispatching adds.
    pub(super) fn overhead(&self, v6: bool) -> usize {
        let sizes = if v6 { SIZES_V6 } else { SIZES_V4 };
        match self.dispatch {
            Dispatch::Off => 0,
            Dispatch::Plain => sizes[0],
            Dispatch::Option => sizes[1],
            Dispatch::Ipip if v6 => 40,
            Dispatch::Ipip => 20,
            Dispatch::Geneve => tunnel::overhead(v6),
        }
    }

    /// Whether a flow that begins with `view` could tell the node of `backend`.
    pub(super) fn could_tell(&self, view: &View<'_>, backend: IpAddr) -> bool {
        let able = match self.dispatch {
            Dispatch::Off => false,
            Dispatch::Ipip => true,
            Dispatch::Geneve => has_node(backend),
            _ => view.v6 || view.l4 - ETHERNET + self.overhead(false) <= 60,
        };
        // Port 0 is nobody's (RFC 6335 section 6): the option stands for it with "none".
        able && !view.fragment && view.ends().0.port() != 0
    }

    /// `before` as its SYN has to be for what it became, where that is less than it announces.
    pub(super) fn clamped(
        &self,
        entry: Entry,
        before: &View<'_>,
        after: &View<'_>,
    ) -> Option<Vec<u8>> {
        let (proto, old, new) = (before.proto, before.ends(), after.ends());
        let lowered = self.lowered(before)?;
        let same = before.rest() == after.rest();
        // Under the node's own address, SNAT looks like a flow that the backend answers.
        let direct = entry == Entry::FromNetdev
            && self.is_direct(proto, old, new)
            && !(same && ours(old.0.ip()));
        // An answer to a client of this node has no device whose MTU would count.
        let answer = self.answers.contains(&(proto, old, new)) || self.is_unseen(proto, old, new);
        (direct || answer && !same).then_some(lowered)
    }

    pub(super) fn lowered(&self, view: &View<'_>) -> Option<Vec<u8>> {
        let headers = if view.v6 { 60 } else { 40 };
        mss::clamped(view, (MTU - headers - self.overhead(view.v6)) as u16)
    }

    /// Whether `output` is `before` with what the backend's node must know, or what is wrong with it.
    pub(super) fn dispatched(&mut self, before: &View<'_>, output: &[u8]) -> Result<bool, String> {
        let overhead = self.overhead(before.v6);
        if matches!(self.dispatch, Dispatch::Off | Dispatch::Geneve)
            || output.len() != before.frame.len() + overhead
        {
            return Ok(false);
        }
        let lowered = self.lowered(before);
        let before = lowered.as_deref().and_then(View::of).unwrap_or(*before);
        let (proto, old) = (before.proto, before.ends());
        if self.dispatch == Dispatch::Ipip {
            let wrapped =
                Wrapped::any(output).ok_or("it became longer, and is no packet in one")?;
            let inner = View::of(&wrapped.inner).ok_or("there is no packet in it")?;
            let node = FAMILIES[usize::from(before.v6)].node.parse().unwrap();
            // What lies behind the inner packet is padding; one that is cut short says its length.
            let field = inner.length();
            let mut whole = wrapped.inner.clone();
            whole.resize(ETHERNET + field, 0);
            let right = encapsulate(&whole, node, wrapped.to, wrapped.port);
            if output[12..ETHERNET + overhead] != right[12..ETHERNET + overhead] {
                return Err(format!("the outer header is not that of {right:02x?}"));
            }
            same_rest(&before, &inner)?;
            if inner.ttl != before.ttl || inner.ends() != before.ends() || before.ttl < 2 {
                return Err("the packet in it is not the one that came".to_owned());
            }
            let backend = SocketAddr::new(wrapped.to, wrapped.port);
            let served = self.frontends.get(&(old.1, proto)).filter(|served| served.direct);
            if !served.is_some_and(|served| served.backends.contains(&backend)) {
                return Err(format!("{backend} is not to answer for {}", old.1));
            }
            self.unseen.insert((proto, backend, (old.1, old.0)));
            self.direct.insert((proto, old, (old.0, backend)));
            self.note(proto, old, (old.0, backend));
            self.note(proto, (backend, old.0), (old.1, old.0));
            return Ok(true);
        }
        let Carried::Right(mark) = carried(output, &KEYS[..1], self.dispatch == Dispatch::Plain)
        else {
            return Err("it became longer, and has no right option".to_owned());
        };
        let own = self.dispatch == Dispatch::Plain || mark.client_port == old.0.port();
        if mark.service != old.1 || !own || mark.size != overhead {
            return Err(format!("the option says {mark:?} for {old:?}"));
        }
        let sent = strip(output, mark.size);
        let after = View::of(&sent).ok_or("behind its option is no packet")?;
        same_rest(&before, &after)?;
        if !self.frontends.get(&(old.1, proto)).is_some_and(|served| served.direct) {
            return Err(format!("nobody is to answer for {} by himself", old.1));
        }
        self.translation(Entry::FromNetdev, &before, &after, How::Told)?;
        // Also where a pod's own connection once went the same way.
        self.direct.insert((proto, old, after.ends()));
        Ok(true)
    }
}
