// SPDX-License-Identifier: Apache-2.0
//! `culvert service list` and `culvert bpf lb list`.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{address, protocol};
use crate::abi::{
    Addr, BACKEND_LOCAL, BACKEND_TERMINATING, Backend, BackendKey, OWNED_NODEPORT, Owned, Service,
    ServiceKey, ServiceKind, SlotRange,
};

/// One line of `culvert service list`, with its backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// Number of the frontend in this list, from 1.
    pub id: usize,
    /// The same for all frontends of one service port and family; in flows, events and `bpf lb list`.
    pub service_id: u32,
    /// `10.96.0.10:53/UDP`; `/i` at the end: for clients in the cluster only.
    pub frontend: String,
    pub service_type: String,
    pub backends: Vec<BackendView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// `10.0.0.7:80/TCP`.
    pub address: String,
    /// `active` or `terminating`.
    pub state: String,
}

/// One slot of a backend list, as `culvert bpf lb list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotRow {
    pub frontend: String,
    pub service_type: String,
    pub id: u32,
    pub generation: u32,
    /// Slots that clients outside and inside the cluster are given, `first+count`.
    pub outside: String,
    pub inside: String,
    pub slot: Option<u32>,
    pub backend: String,
    pub flags: Vec<String>,
    pub target: Option<u32>,
}

type Lists<'a> = HashMap<(u32, u32), BTreeMap<u32, &'a Backend>>;

fn lists(backends: &[(BackendKey, Backend)]) -> Lists<'_> {
    let mut lists = Lists::new();
    for (key, backend) in backends {
        lists.entry((key.service, key.generation)).or_default().insert(key.slot, backend);
    }
    lists
}

/// The rows in the order of their service ids. A NodePort has a wildcard row, and one for each address of
/// the node that serves it.
pub fn service_rows(
    services: &[(ServiceKey, Service)],
    backends: &[(BackendKey, Backend)],
    owned: &[(Addr, Owned)],
) -> Vec<ServiceRow> {
    let lists = lists(backends);
    let empty = BTreeMap::new();
    let mut addresses: Vec<Addr> =
        owned.iter().filter(|(_, o)| o.flags & OWNED_NODEPORT != 0).map(|(a, _)| *a).collect();
    addresses.sort_unstable();

    let mut rows = Vec::new();
    for (key, service) in in_order(services) {
        let slots = lists.get(&(service.id, service.generation)).unwrap_or(&empty);
        let kind = ServiceKind::from_number(service.kind);
        // Only the cluster asks for a ClusterIP; two rows where the two sides' answers differ.
        let scopes: &[(SlotRange, &str)] = if kind == Some(ServiceKind::ClusterIp) {
            &[(service.inside, "")]
        } else if service.inside == service.outside {
            &[(service.outside, "")]
        } else {
            &[(service.outside, ""), (service.inside, "/i")]
        };
        let wildcard = matches!(kind, Some(ServiceKind::NodePort | ServiceKind::HostPort))
            && (key.vip == Addr::V4_WILDCARD || key.vip == Addr::V6_WILDCARD);
        let own = addresses.iter().filter(|a| wildcard && a.is_v4() == key.vip.is_v4());
        for vip in [&key.vip].into_iter().chain(own) {
            for (range, suffix) in scopes {
                let protocol = protocol(key.proto);
                rows.push(ServiceRow {
                    id: rows.len() + 1,
                    service_id: service.id,
                    frontend: format!("{}/{protocol}{suffix}", address(*vip, key.port.get())),
                    service_type: kind_name(service.kind),
                    backends: in_range(slots, *range, &protocol),
                });
            }
        }
    }
    rows
}

/// The slots new connections get, and those that still finish old ones.
fn in_range(slots: &BTreeMap<u32, &Backend>, range: SlotRange, protocol: &str) -> Vec<BackendView> {
    let (first, count) = (u32::from(range.first), u32::from(range.count));
    let shown = |slot: u32, backend: &Backend| {
        (first..first + count).contains(&slot) || backend.flags & BACKEND_TERMINATING != 0
    };
    let view = |backend: &Backend| BackendView {
        address: format!("{}/{protocol}", address(backend.addr, backend.port.get())),
        state: if backend.flags & BACKEND_TERMINATING != 0 { "terminating" } else { "active" }
            .to_owned(),
    };
    slots.iter().filter(|(slot, b)| shown(**slot, b)).map(|(_, b)| view(b)).collect()
}

/// Every frontend with every slot of its list; one row without a slot where the list is empty.
pub fn slot_rows(
    services: &[(ServiceKey, Service)],
    backends: &[(BackendKey, Backend)],
) -> Vec<SlotRow> {
    let lists = lists(backends);
    let mut rows = Vec::new();
    for (key, service) in in_order(services) {
        let range = |range: SlotRange| format!("{}+{}", range.first, range.count);
        let row = SlotRow {
            frontend: format!("{}/{}", address(key.vip, key.port.get()), protocol(key.proto)),
            service_type: kind_name(service.kind),
            id: service.id,
            generation: service.generation,
            outside: range(service.outside),
            inside: range(service.inside),
            slot: None,
            backend: String::new(),
            flags: Vec::new(),
            target: None,
        };
        match lists.get(&(service.id, service.generation)) {
            None => rows.push(row),
            Some(slots) => rows.extend(slots.iter().map(|(slot, backend)| SlotRow {
                slot: Some(*slot),
                backend: address(backend.addr, backend.port.get()),
                flags: flags(backend.flags),
                target: Some(backend.target),
                ..row.clone()
            })),
        }
    }
    rows
}

fn in_order(services: &[(ServiceKey, Service)]) -> Vec<&(ServiceKey, Service)> {
    let mut services: Vec<_> = services.iter().collect();
    services.sort_unstable_by_key(|(key, service)| (service.id, service.kind, *key));
    services
}

fn kind_name(number: u8) -> String {
    ServiceKind::from_number(number).map_or_else(|| number.to_string(), |k| k.name().to_owned())
}

fn flags(bits: u16) -> Vec<String> {
    [(BACKEND_LOCAL, "local"), (BACKEND_TERMINATING, "terminating")]
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
