// SPDX-License-Identifier: Apache-2.0
//! What the pinned maps mean, whatever ids, generations and indices they say it with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use culvert::abi::{
    Backend, BackendKey, Service, ServiceKey, ServiceKind, SlotRange, TargetState, TargetStatus,
};
use culvert::datapath::Maps;

/// One line for each thing the maps say.
pub type Meaning = BTreeSet<String>;

/// The meaning, and what nothing leads to any more.
pub fn read(root: &Path) -> (Meaning, Vec<String>) {
    let maps = Maps::open_pinned(root).unwrap();
    let slots: BTreeMap<_, _> = maps.backends.entries().unwrap().into_iter().collect();
    let targets: BTreeMap<u32, TargetState> =
        maps.target_state.entries().unwrap().into_iter().collect();
    let tables = Tables { slots, targets };

    let mut meaning = Meaning::new();
    let mut lists = BTreeSet::new();
    for (key, value) in maps.services.entries().unwrap() {
        meaning.insert(tables.frontend(&key, &value));
        lists.insert((value.id, value.generation));
    }
    let mut used = BTreeSet::new();
    let mut left_over = Vec::new();
    for (key, backend) in &tables.slots {
        used.insert(backend.target);
        if !lists.contains(&(key.service, key.generation)) {
            left_over.push(format!("slot {key:?} of {}", backend.addr.ip()));
        }
    }
    for (device, uplink) in maps.uplinks.entries().unwrap() {
        used.extend([uplink.snat_v4_target, uplink.snat_v6_target]);
        meaning.insert(format!("uplink {device} {} {}", uplink.snat_v4.ip(), uplink.snat_v6.ip()));
    }
    for (index, state) in tables.targets.iter().filter(|(_, state)| is_alive(state)) {
        if !used.contains(index) {
            left_over.push(format!("target {index} {state:?}"));
        }
    }
    for (vip, value) in maps.vips.entries().unwrap() {
        meaning.insert(format!("vip {} {:#x}", vip.ip(), value.flags));
    }
    for (address, value) in maps.owned.entries().unwrap() {
        meaning.insert(format!("owned {} {:#x}", address.ip(), value.flags));
    }
    for (address, value) in maps.endpoints.entries().unwrap() {
        meaning.insert(format!("pod {} on {}", address.ip(), value.ifindex));
    }
    (meaning, left_over)
}

struct Tables {
    slots: BTreeMap<BackendKey, Backend>,
    targets: BTreeMap<u32, TargetState>,
}

impl Tables {
    fn frontend(&self, key: &ServiceKey, value: &Service) -> String {
        let kind = ServiceKind::from_number(value.kind).map_or("?", ServiceKind::name);
        // Slots that no range covers belong to the meaning too: connections there go on.
        let all = self
            .slots
            .iter()
            .filter(|(slot, _)| (slot.service, slot.generation) == (value.id, value.generation));
        format!(
            "{}:{}/{} {kind} flags {:#x} algorithm {} affinity {} outside {:?} inside {:?} all {:?}",
            key.vip.ip(),
            key.port,
            key.proto,
            value.flags,
            value.algorithm,
            value.affinity_timeout,
            self.range(value, value.outside),
            self.range(value, value.inside),
            all.map(|(_, backend)| self.backend(backend)).collect::<BTreeSet<_>>(),
        )
    }

    fn range(&self, service: &Service, range: SlotRange) -> BTreeSet<String> {
        let slots = range.first..range.first + range.count;
        let keys = slots.map(|slot| BackendKey {
            service: service.id,
            generation: service.generation,
            slot: slot.into(),
        });
        keys.map(|key| self.slots.get(&key).map_or("MISSING".into(), |b| self.backend(b))).collect()
    }

    fn backend(&self, backend: &Backend) -> String {
        let state = self.targets.get(&backend.target);
        let status = match state {
            Some(state) if state.epoch != backend.target_epoch => "of another epoch",
            Some(state) if state.status == TargetStatus::Active as u8 => "active",
            Some(state) if state.status == TargetStatus::Terminating as u8 => "terminating",
            _ => "DEAD",
        };
        let Backend { port, flags, weight, .. } = backend;
        format!("{}:{port} flags {flags:#x} weight {weight} {status}", backend.addr.ip())
    }
}

fn is_alive(state: &TargetState) -> bool {
    [TargetStatus::Active as u8, TargetStatus::Terminating as u8].contains(&state.status)
}
