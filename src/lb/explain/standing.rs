// SPDX-License-Identifier: Apache-2.0
//! Which endpoints count, and why the others do not.

use super::{EndpointView, socket_address};
use crate::abi::SlotRange;
use crate::lb::endpoints::{Candidate, Class, Ranges};
use crate::lb::list::ListKey;
use crate::model::{EndpointSlice, Protocol, ServicePort};

/// One list's endpoints, and which of its ranges some client is given.
pub(super) struct Standing<'a> {
    pub(super) endpoints: &'a [Candidate],
    /// How many of them found a place in the maps.
    pub(super) placed: usize,
    pub(super) ranges: Ranges,
    pub(super) cluster_used: bool,
    pub(super) local_used: bool,
}

impl Standing<'_> {
    pub(super) fn views(&self) -> Vec<EndpointView> {
        let slots = self.endpoints.iter().enumerate();
        slots.map(|(slot, endpoint)| self.view(slot, endpoint)).collect()
    }

    fn view(&self, slot: usize, endpoint: &Candidate) -> EndpointView {
        let within = |range: SlotRange| {
            let first = usize::from(range.first);
            (first..first + usize::from(range.count)).contains(&slot)
        };
        let cluster = self.cluster_used.then(|| within(self.ranges.cluster));
        let local = self.local_used.then(|| within(self.ranges.local));
        let class = endpoint.class;
        let reason = match (cluster, local) {
            _ if slot >= self.placed => "no place in the maps",
            (Some(false), _) => not_chosen(class),
            (_, Some(false)) if !is_local(class) => "policy Local leaves it out: not on this node",
            (_, Some(false)) => not_chosen(class),
            (None, None) => "no frontend leads to it",
            _ => "",
        };
        EndpointView {
            address: socket_address(endpoint.addr, endpoint.port),
            node: String::new(),
            state: state(class).to_owned(),
            counts: slot < self.placed && (cluster == Some(true) || local == Some(true)),
            reason: reason.to_owned(),
        }
    }
}

fn state(class: Class) -> &'static str {
    match class {
        Class::ReadyLocal | Class::HintedLocal | Class::HintedRemote | Class::ReadyRemote => {
            "ready"
        }
        Class::TerminatingLocal | Class::TerminatingRemote => "terminating",
        Class::NotReadyLocal | Class::NotReadyRemote => "not ready",
    }
}

fn is_local(class: Class) -> bool {
    use Class::{HintedLocal, NotReadyLocal, ReadyLocal, TerminatingLocal};
    matches!(class, TerminatingLocal | ReadyLocal | HintedLocal | NotReadyLocal)
}

/// Why a range that asks for nothing but the state left it out.
fn not_chosen(class: Class) -> &'static str {
    match class {
        Class::NotReadyLocal | Class::NotReadyRemote => {
            "not ready: TCP connections to it go on, new ones do not come"
        }
        Class::TerminatingLocal | Class::TerminatingRemote => "terminating, and others are ready",
        _ => "topology hints prefer others",
    }
}

/// Endpoints in `slices` that are not even candidates for `port`.
pub(super) fn left_out<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    list: ListKey,
    candidates: &[Candidate],
) -> Vec<EndpointView> {
    let mut found: Vec<EndpointView> = Vec::new();
    for slice in slices {
        let ours =
            slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
        let targets: Vec<u16> = ours.map(|p| p.port).collect();
        for endpoint in slice.endpoints.iter().filter(|e| e.ip.is_ipv6() == list.v6) {
            let mut add = |address: String, reason: String| {
                let leaving = if endpoint.terminating { "terminating" } else { "not ready" };
                let state = if endpoint.ready { "ready" } else { leaving };
                if found.iter().all(|other| other.address != address) {
                    found.push(EndpointView {
                        address,
                        node: String::new(),
                        state: state.to_owned(),
                        counts: false,
                        reason,
                    });
                }
            };
            if targets.is_empty() {
                let (name, protocol) = (&port.name, port.protocol.name());
                let named =
                    if name.is_empty() { "unnamed port".into() } else { format!("port `{name}`") };
                add(endpoint.ip.to_string(), format!("its slice has no {named} over {protocol}"));
            }
            for target in &targets {
                let known = |c: &Candidate| c.addr.ip() == endpoint.ip && c.port == *target;
                if port.protocol == Protocol::Udp && !candidates.iter().any(known) {
                    let why = "not ready, and UDP has no connections that could go on";
                    add(socket_address(endpoint.ip.into(), *target), why.to_owned());
                }
            }
        }
    }
    found
}
