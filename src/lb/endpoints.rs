// SPDX-License-Identifier: Apache-2.0
//! Which endpoints serve one service port in one family, in which order.
//!
//! The order makes every list that a client may be given one contiguous range of slots:
//! terminating local, ready local, hinted local, hinted remote, ready remote, terminating remote,
//! not ready. Hinted are the ready ones that topology hints prefer, if those count at all.

use std::collections::BTreeMap;

use super::annotations::{DEFAULT_WEIGHT, weight};
use super::balancer::Context;
use super::topology::Topology;
use crate::abi::{Addr, BACKEND_LOCAL, BACKEND_NOT_READY, BACKEND_TERMINATING, SlotRange};
use crate::model::{Endpoint, EndpointSlice, Protocol, ServicePort, TrafficPolicy};

/// Ordered as the slots are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    TerminatingLocal,
    ReadyLocal,
    HintedLocal,
    HintedRemote,
    ReadyRemote,
    TerminatingRemote,
    /// Still listed, neither ready nor serving: TCP connections to it go on, as they do behind
    /// kube-proxy, but no range covers it.
    NotReadyLocal,
    NotReadyRemote,
}

impl Class {
    /// None when nothing may reach the endpoint any more.
    fn of(endpoint: &Endpoint, local: bool, protocol: Protocol) -> Option<Self> {
        Some(match (endpoint.ready, endpoint.serving && endpoint.terminating, local) {
            (true, _, true) => Self::ReadyLocal,
            (true, _, false) => Self::ReadyRemote,
            (false, true, true) => Self::TerminatingLocal,
            (false, true, false) => Self::TerminatingRemote,
            // UDP has no connection to keep: its clients must choose again.
            (false, false, _) if protocol == Protocol::Udp => return None,
            (false, false, true) => Self::NotReadyLocal,
            (false, false, false) => Self::NotReadyRemote,
        })
    }

    /// The better class of an endpoint that two slices list, as happens while it moves.
    fn rank(self) -> u8 {
        match self {
            Self::ReadyLocal | Self::HintedLocal | Self::HintedRemote | Self::ReadyRemote => 0,
            Self::TerminatingLocal | Self::TerminatingRemote => 1,
            Self::NotReadyLocal | Self::NotReadyRemote => 2,
        }
    }

    /// The same, preferred by topology hints.
    fn hinted(self) -> Self {
        match self {
            Self::ReadyLocal => Self::HintedLocal,
            Self::ReadyRemote => Self::HintedRemote,
            other => other,
        }
    }

    /// `BACKEND_*`.
    pub(super) fn flags(self) -> u16 {
        match self {
            Self::TerminatingLocal => BACKEND_LOCAL | BACKEND_TERMINATING,
            Self::ReadyLocal | Self::HintedLocal => BACKEND_LOCAL,
            Self::HintedRemote | Self::ReadyRemote => 0,
            Self::TerminatingRemote => BACKEND_TERMINATING,
            Self::NotReadyLocal => BACKEND_LOCAL | BACKEND_NOT_READY,
            Self::NotReadyRemote => BACKEND_NOT_READY,
        }
    }
}

/// One endpoint of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) class: Class,
    pub(super) addr: Addr,
    pub(super) port: u16,
    /// Its part of the clients against the others', where a Maglev table decides.
    pub(super) weight: u16,
}

/// The endpoints of `port` in one family, each once, in slot order.
pub(super) fn candidates<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    v6: bool,
    context: &Context,
) -> Vec<Candidate> {
    let mut found: BTreeMap<(Addr, u16), (Class, &Endpoint, u16)> = BTreeMap::new();
    for slice in slices {
        let weight = weight(slice).unwrap_or(DEFAULT_WEIGHT);
        let targets = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol)
            .map(|p| p.port);
        for target in targets {
            for endpoint in slice.endpoints.iter().filter(|e| e.ip.is_ipv6() == v6) {
                let local = endpoint.node.as_ref() == Some(&context.node);
                let Some(class) = Class::of(endpoint, local, port.protocol) else {
                    continue;
                };
                let key = (endpoint.ip.into(), target);
                let best = found.entry(key).or_insert((class, endpoint, weight));
                // Slices that do not agree on its node: as kube-proxy, rather here than nowhere.
                let better = |class: Class| (class.rank(), class.flags() & BACKEND_LOCAL == 0);
                if better(class) < better(best.0) {
                    *best = (class, endpoint, weight);
                }
            }
        }
    }
    let ready = found.values().filter(|(class, ..)| class.rank() == 0).map(|(_, of, _)| *of);
    let topology = Topology::of(ready, &context.node, context.zone.as_deref());
    let candidate = |((addr, port), (class, endpoint, weight)): (_, (Class, _, _))| {
        let class = if topology.prefers(endpoint) { class.hinted() } else { class };
        Candidate { class, addr, port, weight }
    };
    let mut candidates: Vec<Candidate> =
        found.iter().map(|(key, of)| candidate((*key, *of))).collect();
    // Stable: within a class the order of addresses stays, so equal endpoints give equal slots.
    candidates.sort_by_key(|candidate| candidate.class);
    candidates
}

/// The ranges a client may be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) cluster: SlotRange,
    pub(super) local: SlotRange,
}

impl Ranges {
    /// `classes` in slot order. Terminating endpoints serve only where no ready one is left,
    /// judged for each list by itself (KEP-1669).
    pub(super) fn of(classes: impl Iterator<Item = Class>) -> Self {
        let mut counts = [0u16; 8];
        for class in classes {
            counts[class as usize] += 1;
        }
        let range = |of: std::ops::RangeInclusive<Class>| {
            let (first, last) = (*of.start() as usize, *of.end() as usize);
            SlotRange {
                first: counts[..first].iter().sum(),
                count: counts[first..=last].iter().sum(),
            }
        };
        let first_of = |ranges: [SlotRange; 3]| {
            ranges.into_iter().find(|range| range.count > 0).unwrap_or_default()
        };
        use Class::{HintedLocal, HintedRemote, ReadyLocal, ReadyRemote};
        use Class::{TerminatingLocal, TerminatingRemote};
        // Where nothing is ready, the terminating ones lie next to each other.
        let local = [ReadyLocal..=HintedLocal, TerminatingLocal..=TerminatingLocal];
        let [local, local_leaving] = local.map(range);
        Self {
            cluster: first_of([
                range(HintedLocal..=HintedRemote),
                range(ReadyLocal..=ReadyRemote),
                range(TerminatingLocal..=TerminatingRemote),
            ]),
            local: first_of([local, local_leaving, SlotRange::default()]),
        }
    }

    pub(super) fn under(&self, policy: TrafficPolicy) -> SlotRange {
        match policy {
            TrafficPolicy::Cluster => self.cluster,
            TrafficPolicy::Local => self.local,
        }
    }
}
