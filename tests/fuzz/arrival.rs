// SPDX-License-Identifier: Apache-2.0
//! Direct server return to the judge, at the backend's node: what may be taken out of a packet, and
//! what may become of it then.

use std::net::SocketAddr;

use super::dsr::{Carried, Wrapped, carried, strip};
use super::entry::Entry;
use super::judge::{How, Judge, NODE_PORTS};
use super::view::{Ends, TCP, View};
use super::world::{Dispatch, KEYS, is_node, ours};
use crate::support::node::FAMILIES;

/// What a packet from the wire is to this node.
#[derive(Debug)]
pub enum Arrival {
    Itself,
    /// It must be dropped.
    Refused(&'static str),
    /// Its option is right: the packet is this one, and its answers go between these ends.
    Stripped(Vec<u8>, Ends),
    /// It is what is in there.
    Unwrapped(Wrapped),
}

impl Judge {
    /// What `input`, which became `output`, is. A right option may say from then on whom its backend
    /// answers.
    pub(super) fn arrival(&mut self, input: &[u8], output: &[u8]) -> Arrival {
        let Some(view) = View::of(input).filter(|view| ours(view.dst)) else {
            return Arrival::Itself;
        };
        if self.dispatch == Dispatch::Off {
            return Arrival::Itself;
        }
        let taken = matches!(self.dispatch, Dispatch::Ipip | Dispatch::Plain);
        if let Some(wrapped) = Wrapped::of(input).filter(|_| taken) {
            return self.unwrapped(wrapped, input != output);
        }
        match carried(input, &KEYS, self.dispatch == Dispatch::Plain) {
            Carried::Nothing => Arrival::Itself,
            Carried::Wrong => Arrival::Refused("a wrong option was accepted"),
            Carried::Right(mark) => {
                let frame = strip(input, mark.size);
                let client = SocketAddr::new(view.src, mark.client_port);
                let answer = (mark.service, client);
                if let Some(view) = View::of(&frame) {
                    let ends = view.ends();
                    self.note_aside(&view, answer);
                    self.note_answer(view.proto, (ends.1, ends.0), answer);
                }
                Arrival::Stripped(frame, answer)
            }
        }
    }

    /// As [`Self::arrival`]. What it is for counts even where the packet itself comes to its end here.
    /// One to a service that is not this node's is taken, and `changed`, while an option's flow is open.
    fn unwrapped(&mut self, wrapped: Wrapped, changed: bool) -> Arrival {
        let Some(inner) = View::of(&wrapped.inner) else {
            return Arrival::Itself;
        };
        let (ends, proto) = (inner.ends(), inner.proto);
        let served = self.serves(ends.1, proto);
        let open = changed && self.whole.contains_key(&(proto, ends));
        if !served && !open {
            return Arrival::Itself;
        }
        let port = match self.dispatch {
            _ if is_node(wrapped.from) => wrapped.port,
            Dispatch::Plain => ends.1.port(),
            _ => return Arrival::Itself,
        };
        if served {
            let backend = SocketAddr::new(wrapped.to, port);
            self.whole.entry((proto, ends)).or_default().insert(backend);
            self.note_answer(proto, (backend, ends.0), (ends.1, ends.0));
        }
        Arrival::Unwrapped(wrapped)
    }

    /// Whether `address` is a frontend; a NodePort is one at any address, for it may be another
    /// node's.
    fn serves(&self, address: SocketAddr, proto: u8) -> bool {
        let node = FAMILIES[usize::from(address.is_ipv6())].node.parse().unwrap();
        let port = address.port();
        self.frontends.contains_key(&(address, proto))
            || NODE_PORTS.contains(&port)
                && self.frontends.contains_key(&(SocketAddr::new(node, port), proto))
    }

    /// Whether what came in a packet may be translated so.
    pub(super) fn opens_wrapped(&mut self, proto: u8, old: Ends, new: Ends) -> Result<(), String> {
        let told = self.whole.get(&(proto, old)).is_some_and(|told| told.contains(&new.1));
        if !told || new.0.ip() != old.0.ip() {
            return Err(format!("what came in a packet for another went {new:?}"));
        }
        self.answers.insert((proto, (new.1, new.0), (old.1, old.0)));
        Ok(())
    }

    /// Whether this node, asked as the LB node, may go on with what another one brought to its own
    /// backend.
    pub(super) fn may_join(&self, proto: u8, old: Ends, new: Ends) -> bool {
        let brought = self.whole.get(&(proto, old)).is_some_and(|told| told.contains(&new.1))
            || self.answers.contains(&(proto, (new.1, new.0), (old.1, old.0)));
        brought && old.0.ip() == new.0.ip() && ours(new.1.ip())
    }

    /// Notes that `view`, whose answers go between `answer`, may go on as what the client sent:
    /// another has its port, or it went so before, or has another port than its client sent it from. A
    /// SYN that finds its port taken is dropped; of others it does not show what has their port.
    fn note_aside(&mut self, view: &View<'_>, answer: Ends) {
        let (proto, original) = (view.proto, (answer.1, answer.0));
        let open = self.whole.contains_key(&(proto, original));
        let moved = view.ends().0 != answer.1;
        if open || moved || proto != TCP || !view.opens() {
            self.whole.entry((proto, original)).or_default().insert(view.ends().1);
        }
    }

    /// Notes that the packet `input` has come to its end here, maybe after it opened a flow.
    pub(super) fn note_unseen(&mut self, input: &[u8], how: How) {
        let Some(view) = View::of(input) else {
            return;
        };
        let (service, client) = match how {
            How::Marked(answer) => answer,
            How::Wrapped => (view.ends().1, view.ends().0),
            How::Plain | How::Told => return,
        };
        let backends = self.whole.get(&(view.proto, (client, service))).into_iter().flatten();
        let unseen = backends.map(|backend| (view.proto, *backend, (service, client)));
        self.unseen.extend(unseen);
    }

    /// Whether what came with an option, whose answers go between `answer`, may be translated so:
    /// to the client's own port, from which it came before, or as what the client sent. What comes out
    /// of a tunnel is always that.
    pub(super) fn opens_marked(
        &mut self,
        entry: Entry,
        before: &View<'_>,
        new: Ends,
        answer: Ends,
    ) -> Result<(), String> {
        let (proto, old) = (before.proto, before.ends());
        let original = (answer.1, answer.0);
        if new == (answer.1, old.1) && entry != Entry::FromOverlay {
            self.note_answer(proto, (new.1, new.0), answer);
            self.note(proto, old, new);
            return Ok(());
        }
        if self.knows(proto, original, new) {
            self.note_answer(proto, (new.1, new.0), answer);
            return Ok(());
        }
        if before.opens() && new.1 != old.1 {
            return Err(format!("opened for {}, and went {new:?}", old.1));
        }
        self.opens_wrapped(proto, original, new)?;
        self.note_answer(proto, (new.1, new.0), answer);
        self.note(proto, original, new);
        Ok(())
    }
}
