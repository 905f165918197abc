// SPDX-License-Identifier: Apache-2.0
//! Which endpoints serve one service port in one family, in which order.
//!
//! The order makes every list that a client may be given one contiguous range of slots:
//! terminating local, ready local, ready remote, terminating remote, not ready. (Topology hints
//! will split both ready classes, with the hinted ones in the middle.)

use std::collections::BTreeMap;

use crate::abi::{Addr, BACKEND_LOCAL, BACKEND_NOT_READY, BACKEND_TERMINATING, SlotRange};
use crate::model::{Endpoint, EndpointSlice, Protocol, ServicePort, TrafficPolicy};

/// Ordered as the slots are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    TerminatingLocal,
    ReadyLocal,
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
            Self::ReadyLocal | Self::ReadyRemote => 0,
            Self::TerminatingLocal | Self::TerminatingRemote => 1,
            Self::NotReadyLocal | Self::NotReadyRemote => 2,
        }
    }

    /// `BACKEND_*`.
    pub(super) fn flags(self) -> u16 {
        match self {
            Self::TerminatingLocal => BACKEND_LOCAL | BACKEND_TERMINATING,
            Self::ReadyLocal => BACKEND_LOCAL,
            Self::ReadyRemote => 0,
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
}

/// The endpoints of `port` in one family, each once, in slot order.
pub(super) fn candidates<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    v6: bool,
    node: &str,
) -> Vec<Candidate> {
    let mut found: BTreeMap<(Addr, u16), Class> = BTreeMap::new();
    for slice in slices {
        let targets = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol)
            .map(|p| p.port);
        for target in targets {
            for endpoint in slice.endpoints.iter().filter(|e| e.ip.is_ipv6() == v6) {
                let local = endpoint.node.as_deref() == Some(node);
                let Some(class) = Class::of(endpoint, local, port.protocol) else {
                    continue;
                };
                let best = found.entry((endpoint.ip.into(), target)).or_insert(class);
                if class.rank() < best.rank() {
                    *best = class;
                }
            }
        }
    }
    let mut candidates: Vec<Candidate> =
        found.into_iter().map(|((addr, port), class)| Candidate { class, addr, port }).collect();
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
        let mut count = [0u16; 6];
        for class in classes {
            count[class as usize] += 1;
        }
        let [terminating_local, ready_local, ready_remote, terminating_remote, ..] = count;
        let ready = SlotRange { first: terminating_local, count: ready_local + ready_remote };
        let terminating = SlotRange { first: 0, count: terminating_local + terminating_remote };
        Self {
            cluster: if ready.count > 0 { ready } else { terminating },
            local: if ready_local > 0 {
                SlotRange { first: terminating_local, count: ready_local }
            } else {
                SlotRange { first: 0, count: terminating_local }
            },
        }
    }

    pub(super) fn under(&self, policy: TrafficPolicy) -> SlotRange {
        match policy {
            TrafficPolicy::Cluster => self.cluster,
            TrafficPolicy::Local => self.local,
        }
    }
}
