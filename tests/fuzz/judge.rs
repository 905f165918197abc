// SPDX-License-Identifier: Apache-2.0
//! The model: what may become of a packet, from the services and from what came out before.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::arrival::Arrival;
use super::check::same_rest;
use super::entry::Entry;
use super::view::{Ends, ICMP, ICMPV6, SCTP, View};
use super::world::{Dispatch, NODE_MAC, SNAT_PORTS, Served, ours};
use crate::support::node::{FAMILIES, TC_DROP, TC_NEXT, TC_REDIRECT};

/// As in the configuration that tests load.
pub const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;

/// What became of a packet that is all right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    Dropped,
    Untouched,
    Forwarded,
    Translated,
    ErrorTranslated,
    Answered,
    /// Direct server return: sent to the backend's node with an option or in a packet; taken out of it.
    Dispatched,
    Accepted,
    /// The driver hook: passed up as it came, sent back where it came from, out of another device.
    Up,
    Sent,
    Redirected,
}

/// How a packet came to its translation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    Plain,
    /// It leaves with what the backend's node must know.
    Told,
    /// It came in a packet.
    Wrapped,
    /// Its option says that these ends are what its answers go between.
    Marked(Ends),
}

#[derive(Debug)]
pub struct Judge {
    pub(super) dispatch: Dispatch,
    pub(super) frontends: HashMap<(SocketAddr, u8), Served>,
    /// Tuple to tuple, for all translations that were right when they were made, in both directions.
    pub(super) known: HashMap<(u8, Ends), HashSet<Ends>>,
    /// The addresses of the same, for later fragments.
    addresses: HashSet<(u8, [IpAddr; 4])>,
    /// Translations whose backends answer by themselves, and those of such answers.
    pub(super) direct: HashSet<(u8, Ends, Ends)>,
    pub(super) answers: HashSet<(u8, Ends, Ends)>,
    /// What the backends' node has made of dispatched packets, and for which backends.
    pub(super) whole: HashMap<(u8, Ends), HashSet<SocketAddr>>,
    /// The port that a flow has towards the backend is never seen where its packets left in others,
    /// and not yet where they came to their end here.
    pub(super) unseen: HashSet<(u8, SocketAddr, Ends)>,
}

impl Judge {
    pub fn new(dispatch: Dispatch, frontends: HashMap<(SocketAddr, u8), Served>) -> Self {
        Self {
            dispatch,
            frontends,
            known: HashMap::new(),
            addresses: HashSet::new(),
            direct: HashSet::new(),
            answers: HashSet::new(),
            whole: HashMap::new(),
            unseen: HashSet::new(),
        }
    }

    /// What became of `input`, which a tunnel may have brought with an option, or what is wrong with it.
    pub fn judge(
        &mut self,
        entry: Entry,
        input: &[u8],
        tunnel: &[u8],
        action: u32,
        output: &[u8],
    ) -> Result<Fate, String> {
        let before = View::of(input);
        if entry == Entry::FromNetdev && input[..6] != NODE_MAC {
            let untouched = (action, output) == (TC_NEXT, input);
            let why = "somebody else's frame was not left alone";
            return if untouched { Ok(Fate::Untouched) } else { Err(why.to_owned()) };
        }
        if entry == Entry::FromContainer
            && action != TC_DROP
            && before.is_some_and(|view| !may_leave_pod(&view))
        {
            return Err("a pod's packet with a foreign source was not dropped".to_owned());
        }
        let arrival = match entry {
            Entry::FromNetdev => self.arrival(input, output),
            Entry::FromOverlay => self.emerged(input, tunnel),
            _ => Arrival::Itself,
        };
        let (input, how, taken) = match &arrival {
            Arrival::Itself => (input, How::Plain, false),
            Arrival::Refused(_) if action == TC_DROP => return Ok(Fate::Dropped),
            Arrival::Refused(why) => return Err((*why).to_owned()),
            Arrival::Stripped(frame, answer) => (frame.as_slice(), How::Marked(*answer), true),
            Arrival::Unwrapped(wrapped) => (wrapped.inner.as_slice(), How::Wrapped, true),
        };
        let fate = match action {
            TC_DROP => Fate::Dropped,
            _ => self.onward(entry, input, how, action, output)?,
        };
        let ended = matches!(fate, Fate::Dropped | Fate::Answered);
        if ended {
            self.note_unseen(input, how);
        }
        Ok(if taken && !ended { Fate::Accepted } else { fate })
    }

    /// What became of a packet that is as it is after direct server return has been taken out.
    fn onward(
        &mut self,
        entry: Entry,
        input: &[u8],
        how: How,
        action: u32,
        output: &[u8],
    ) -> Result<Fate, String> {
        match action {
            TC_NEXT if input == output => return Ok(Fate::Untouched),
            TC_NEXT | TC_REDIRECT => {}
            other => return Err(format!("unknown action {other}")),
        }
        if action == TC_REDIRECT && self.answered(input, how, output) {
            return self.told_mtu(entry, input, output).map(|()| Fate::Answered);
        }
        let (Some(before), Some(after)) = (View::of(input), View::of(output)) else {
            return Err("no IP packet, yet it was changed".to_owned());
        };
        let same = before.ends() == after.ends() && before.rest() == after.rest();
        if matches!(before.proto, ICMP | ICMPV6) && !same {
            return self.error(entry, &before, &after).map(|()| Fate::ErrorTranslated);
        }
        if entry == Entry::FromNetdev
            && (self.dispatched(&before, output)? || self.tunnelled(&before, action, &after)?)
        {
            return Ok(Fate::Dispatched);
        }
        let clamped = self.clamped(entry, &before, &after);
        let before = clamped.as_deref().and_then(View::of).unwrap_or(before);
        same_rest(&before, &after)?;
        if before.ends() == after.ends() {
            return Ok(Fate::Forwarded);
        }
        self.translation(entry, &before, &after, how).map(|()| Fate::Translated)
    }

    pub fn translation(
        &mut self,
        entry: Entry,
        before: &View<'_>,
        after: &View<'_>,
        how: How,
    ) -> Result<(), String> {
        let proto = before.proto;
        let (old, new) = (before.ends(), after.ends());
        if !before.has_ports() {
            let addresses = [old.0.ip(), old.1.ip(), new.0.ip(), new.1.ip()];
            let known = before.fragment && self.addresses.contains(&(proto, addresses));
            return if known { Ok(()) } else { Err("translated without ports".to_owned()) };
        }
        if let How::Marked(answer) = how {
            return self.opens_marked(entry, before, new, answer);
        }
        if self.knows(proto, old, new) {
            let alone = !matches!(self.dispatch, Dispatch::Ipip | Dispatch::Geneve);
            let tells = alone || before.fragment || how == How::Told;
            // The node's own packets go as they are, and another's under its name like them.
            let direct =
                entry == Entry::FromNetdev && self.is_direct(proto, old, new) && !ours(old.0.ip());
            let why = "sent to a backend that does not know for whom it answers";
            return if tells || !direct { Ok(()) } else { Err(why.to_owned()) };
        }
        match how {
            How::Wrapped => self.opens_wrapped(proto, old, new)?,
            _ => self.opens(entry, before, new, how)?,
        }
        self.note(proto, old, new);
        self.note(proto, (new.1, new.0), (old.1, old.0));
        Ok(())
    }

    /// Whether a new connection may be translated so.
    fn opens(
        &mut self,
        entry: Entry,
        before: &View<'_>,
        new: Ends,
        how: How,
    ) -> Result<(), String> {
        let (proto, old) = (before.proto, before.ends());
        let joins = entry == Entry::FromNetdev && self.may_join(proto, old, new);
        let same_host = old.0.ip() == new.0.ip();
        if old.1 == new.1 {
            // A direct connection beside one through a service: its port alone may change.
            return if same_host { Ok(()) } else { Err("a source out of nowhere".to_owned()) };
        }
        let served = self.frontends.get(&(old.1, proto));
        let served = served.ok_or_else(|| format!("{} is no service", old.1))?;
        if entry == Entry::FromNetdev && is_martian(old.0.ip()) {
            return Err("a source that nobody can have was served".to_owned());
        }
        if served.cluster_ip && entry != Entry::FromContainer {
            return Err("a cluster IP was served to the outside".to_owned());
        }
        if joins {
            self.answers.insert((proto, (new.1, new.0), (old.1, old.0)));
            return Ok(());
        }
        if !served.backends.contains(&new.1) {
            return Err(format!("{} is no backend of {}", new.1, old.1));
        }
        if served.direct && entry == Entry::FromNetdev && !ours(new.1.ip()) {
            if same_host && how == How::Told {
                return Ok(());
            }
            // A client with the node's own address keeps it either way.
            if !ours(old.0.ip()) && (same_host || self.could_tell(before, new.1.ip())) {
                let why = "a backend that is to answer by itself was not told for whom";
                return Err(why.to_owned());
            }
        }
        if same_host {
            return Ok(());
        }
        let family = if old.0.is_ipv6() { FAMILIES[1] } else { FAMILIES[0] };
        let is = |address: &str| new.0.ip() == address.parse::<IpAddr>().unwrap();
        if is(family.hairpin) && old.0.ip() == new.1.ip() {
            return Ok(());
        }
        if !is(family.node) {
            return Err(format!("the source became {}", new.0));
        }
        let port = new.0.port();
        if proto == SCTP && port == old.0.port() {
            return Ok(());
        }
        if NODE_PORTS.contains(&port) || !SNAT_PORTS.contains(&port) {
            return Err(format!("the source port became {port}"));
        }
        Ok(())
    }

    /// Whether the translation of `old` to `new` is one that was right before.
    pub(super) fn knows(&self, proto: u8, old: Ends, new: Ends) -> bool {
        self.known.get(&(proto, old)).is_some_and(|known| known.contains(&new))
            || self.is_direct(proto, old, new)
            || self.is_unseen(proto, old, new)
    }

    /// Whether `old` may be an answer in a flow whose port was never seen, and `new` what it becomes.
    pub(super) fn is_unseen(&self, proto: u8, old: Ends, new: Ends) -> bool {
        old.1.ip() == new.1.ip() && self.unseen.contains(&(proto, old.0, new))
    }

    pub(super) fn note(&mut self, proto: u8, old: Ends, new: Ends) {
        self.known.entry((proto, old)).or_default().insert(new);
        self.addresses.insert((proto, [old.0.ip(), old.1.ip(), new.0.ip(), new.1.ip()]));
    }
}

/// Sources that no packet from the network may have.
fn is_martian(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
        }
    }
}

/// Sources that a pod may use: its own, and those that never leave its link.
fn may_leave_pod(view: &View<'_>) -> bool {
    let own = FAMILIES[usize::from(view.v6)].pod.parse::<IpAddr>().unwrap();
    view.src == own
        || match view.src {
            IpAddr::V4(v4) => v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local(),
        }
}
