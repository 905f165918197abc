// SPDX-License-Identifier: Apache-2.0
//! The model: what may become of a packet, from the services and from what came out before.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::answer::is_answer;
use super::check::same_rest;
use super::view::{ETHERNET, Ends, ICMP, ICMPV6, SCTP, View};
use super::world::{Entry, NODE_MAC, Served};
use crate::support::node::{FAMILIES, TC_DROP, TC_NEXT, TC_REDIRECT};

/// As in the configuration that tests load.
const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;
const SNAT_PORTS: RangeInclusive<u16> = 32768..=60999;

/// What became of a packet that is all right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    Dropped,
    Untouched,
    Forwarded,
    Translated,
    ErrorTranslated,
    Answered,
    /// The driver hook: passed up as it came, sent back where it came from, out of another device.
    Up,
    Sent,
    Redirected,
}

#[derive(Debug)]
pub struct Judge {
    frontends: HashMap<(SocketAddr, u8), Served>,
    /// Tuple to tuple, for all translations that were right when they were made, in both directions.
    known: HashMap<(u8, Ends), HashSet<Ends>>,
    /// The addresses of the same, for later fragments.
    addresses: HashSet<(u8, [IpAddr; 4])>,
}

impl Judge {
    pub fn new(frontends: HashMap<(SocketAddr, u8), Served>) -> Self {
        Self { frontends, known: HashMap::new(), addresses: HashSet::new() }
    }

    /// What became of `input`, or what is wrong with it.
    pub fn judge(
        &mut self,
        entry: Entry,
        input: &[u8],
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
        match action {
            TC_DROP => return Ok(Fate::Dropped),
            TC_NEXT if input == output => return Ok(Fate::Untouched),
            TC_NEXT | TC_REDIRECT => {}
            other => return Err(format!("unknown action {other}")),
        }
        if action == TC_REDIRECT && is_answer(input, output) {
            return Ok(Fate::Answered);
        }
        let (Some(before), Some(after)) = (before, View::of(output)) else {
            return Err("no IP packet, yet it was changed".to_owned());
        };
        let same = before.ends() == after.ends() && before.rest() == after.rest();
        if matches!(before.proto, ICMP | ICMPV6) && !same {
            return self.error(&before, &after).map(|()| Fate::ErrorTranslated);
        }
        same_rest(&before, &after)?;
        if before.ends() == after.ends() {
            return Ok(Fate::Forwarded);
        }
        self.translation(entry, &before, &after).map(|()| Fate::Translated)
    }

    pub fn translation(
        &mut self,
        entry: Entry,
        before: &View<'_>,
        after: &View<'_>,
    ) -> Result<(), String> {
        let proto = before.proto;
        let (old, new) = (before.ends(), after.ends());
        if !before.has_ports() {
            let addresses = [old.0.ip(), old.1.ip(), new.0.ip(), new.1.ip()];
            let known = before.fragment && self.addresses.contains(&(proto, addresses));
            return if known { Ok(()) } else { Err("translated without ports".to_owned()) };
        }
        if self.known.get(&(proto, old)).is_some_and(|known| known.contains(&new)) {
            return Ok(());
        }
        self.opens(entry, proto, old, new)?;
        self.note(proto, old, new);
        self.note(proto, (new.1, new.0), (old.1, old.0));
        Ok(())
    }

    /// Whether a new connection may be translated so.
    fn opens(&self, entry: Entry, proto: u8, old: Ends, new: Ends) -> Result<(), String> {
        let same_host = old.0.ip() == new.0.ip();
        if old.1 == new.1 {
            // A direct connection beside one through a service: its port alone may change.
            return if same_host { Ok(()) } else { Err("a source out of nowhere".to_owned()) };
        }
        let served = self
            .frontends
            .get(&(old.1, proto))
            .ok_or_else(|| format!("{} is no service", old.1))?;
        if served.cluster_ip && entry != Entry::FromContainer {
            return Err("a cluster IP was served to the outside".to_owned());
        }
        if !served.backends.contains(&new.1) {
            return Err(format!("{} is no backend of {}", new.1, old.1));
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

    fn note(&mut self, proto: u8, old: Ends, new: Ends) {
        self.known.entry((proto, old)).or_default().insert(new);
        self.addresses.insert((proto, [old.0.ip(), old.1.ip(), new.0.ip(), new.1.ip()]));
    }

    /// An ICMP error about a translated packet: the quote becomes what its sender sent.
    fn error(&self, before: &View<'_>, after: &View<'_>) -> Result<(), String> {
        let quote = |view: &View<'_>| {
            let mut frame = view.frame[..ETHERNET].to_vec();
            frame.extend(view.frame.get(view.l4 + 8..)?);
            Some(frame)
        };
        let (Some(old), Some(new)) = (quote(before), quote(after)) else {
            return Err("an error without a quote was translated".to_owned());
        };
        let (Some(old), Some(new)) = (View::of(&old), View::of(&new)) else {
            return Err("an error with a broken quote was translated".to_owned());
        };
        // The quoted packet is on its way out: undo what was done to it.
        let undone = (new.ends().1, new.ends().0);
        let made = (old.ends().1, old.ends().0);
        if !self.known.get(&(old.proto, made)).is_some_and(|known| known.contains(&undone)) {
            return Err(format!("the quote {made:?} became {undone:?}, which nobody sent"));
        }
        if after.dst != new.src {
            return Err("the error does not go to whom it quotes".to_owned());
        }
        if before.residue() != after.residue() {
            return Err("the ICMP checksum does not fit".to_owned());
        }
        if before.header_residue() != after.header_residue() {
            return Err("the IPv4 header checksum does not fit".to_owned());
        }
        Ok(())
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
