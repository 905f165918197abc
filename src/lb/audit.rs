// SPDX-License-Identifier: Apache-2.0
//! Where the maps differ from what was planned.

mod source;

use std::collections::{BTreeMap, BTreeSet};

use super::balancer::Balancer;
use super::frontends::frontend_name;
use super::plan::Actual;
use super::targets::Target;
use crate::abi::{
    Backend, BackendKey, Service, ServiceKey, SourceRangeKey, TargetState, TargetStatus, Vip,
};
use crate::model::Problem;

/// The fields in which two structs differ, `name ACTUAL instead of WANTED`.
macro_rules! differing {
    ($actual:expr, $wanted:expr, [$($field:ident),+ $(,)?]) => {{
        let mut fields: Vec<String> = Vec::new();
        $(if $actual.$field != $wanted.$field {
            let name = stringify!($field);
            fields.push(format!("{name} {:?} instead of {:?}", $actual.$field, $wanted.$field));
        })+
        fields.join(", ")
    }};
}

/// What is written as far as that is known, and what is not to be judged.
#[derive(Default)]
struct Written {
    services: BTreeMap<ServiceKey, Service>,
    backends: BTreeMap<BackendKey, Backend>,
    targets: BTreeMap<u32, TargetState>,
    ranges: BTreeSet<SourceRangeKey>,
    /// Whose list an id is.
    owners: BTreeMap<u32, String>,
    /// A write failed, or they are about to go.
    unsure_frontends: BTreeSet<ServiceKey>,
    unsure_slots: BTreeSet<BackendKey>,
    unsure_lists: BTreeSet<u32>,
    unsure_targets: BTreeSet<u32>,
    unsure_ranges: BTreeSet<SourceRangeKey>,
}

impl Balancer {
    /// Every difference between `actual` and what has been written. What waits for a retry is left
    /// out; the caller names that. `leaving` are slots that are still to be removed, `reserved` the
    /// targets of others than services.
    pub fn map_differences(
        &self,
        actual: &Actual,
        leaving: impl IntoIterator<Item = BackendKey>,
        reserved: &[Target],
    ) -> Vec<Problem> {
        let mut written = self.written();
        written.unsure_slots.extend(leaving);
        for target in reserved {
            written.targets.insert(target.index, target.state(TargetStatus::Active, 0));
        }
        let mut found = Vec::new();
        let adopted = self.adopted();

        compare("services", &written.services, &actual.services, &mut found, |key| {
            let unsure = written.unsure_frontends.contains(key) || adopted.has_frontend(key);
            (!unsure).then(|| frontend_name(key))
        });
        compare("backends", &written.backends, &actual.backends, &mut found, |key| {
            let unsure = written.unsure_slots.contains(key) || written.is_unsure(key.service);
            let judged = !unsure && !adopted.has_list(key.service);
            judged.then(|| format!("slot {} of {}", key.slot, written.list(key.service)))
        });
        let ended = |(index, state): &(&u32, &TargetState)| {
            !written.targets.contains_key(*index) && state.status == TargetStatus::Gone as u8
        };
        let alive = actual.targets.iter().filter(|entry| !ended(entry));
        let alive: BTreeMap<u32, TargetState> = alive.map(|(i, state)| (*i, *state)).collect();
        compare("target_state", &written.targets, &alive, &mut found, |index| {
            let unsure = written.unsure_targets.contains(index) || adopted.unowned.contains(index);
            (!unsure).then(|| format!("index {index}"))
        });
        let vips = self.vips();
        compare("vips", &vips.known(), &actual.vips, &mut found, |addr| {
            (!vips.is_unsure(addr)).then(|| addr.ip().to_string())
        });
        let keyed = |keys: &BTreeSet<SourceRangeKey>| keys.iter().map(|key| (*key, ())).collect();
        let (wanted, actual_ranges) = (keyed(&written.ranges), keyed(&actual.source_ranges));
        compare("source_ranges", &wanted, &actual_ranges, &mut found, |key| {
            let unsure = written.unsure_ranges.contains(key) || adopted.has_list(key.service);
            let bits = key.prefixlen.saturating_sub(if key.addr.is_v4() { 128 } else { 32 });
            let list = written.list(key.service);
            (!unsure).then(|| format!("{}/{bits} of {list}", key.addr.ip()))
        });
        let odd =
            actual.tables.iter().filter(|(at, places)| !self.tables().is_written(**at, places));
        found.extend(odd.map(|(offset, _)| {
            let users = self.records().filter(|(_, record)| record.tables.contains(offset));
            let mut names: Vec<String> =
                users.filter_map(|(owner, _)| Some(self.subject(owner?))).collect();
            names.sort_unstable();
            Problem {
                subject: format!("`maglev` from slot {offset} ({})", names.join(", ")),
                message: "the table's slots are not what was written".to_owned(),
            }
        }));
        if let Some(wanted) = self.host_ports_written().filter(|count| *count != actual.host_ports)
        {
            let message = format!("the map holds {} instead of {wanted}", actual.host_ports);
            found.push(Problem { subject: "`settings` host_ports".to_owned(), message });
        }
        found
    }

    fn written(&self) -> Written {
        let mut written = Written::default();
        for (owner, record) in self.records() {
            let name = owner.map_or_else(|| "nobody".to_owned(), |owner| self.subject(owner));
            for list in &record.lists {
                written.owners.insert(list.id, name.clone());
                let (service, generation) = (list.id, list.generation);
                for (slot, backend) in (0u32..).zip(&list.slots) {
                    written.backends.insert(BackendKey { service, generation, slot }, *backend);
                }
                if list.uncertain {
                    written.unsure_lists.insert(list.id);
                    written.unsure_targets.extend(list.slots.iter().map(|slot| slot.target));
                }
                written.targets.extend(list.states());
            }
            for (key, value) in &record.frontends {
                match value {
                    Some(value) => drop(written.services.insert(*key, *value)),
                    None => drop(written.unsure_frontends.insert(*key)),
                }
            }
            for (key, known) in record.ranges.iter() {
                let keys = if *known { &mut written.ranges } else { &mut written.unsure_ranges };
                keys.insert(*key);
            }
            let garbage = record.garbage.iter().flat_map(|garbage| garbage.keys());
            written.unsure_slots.extend(garbage);
            written.unsure_targets.extend(record.owed.iter().map(|gone| gone.target));
        }
        written
    }
}

impl Written {
    fn is_unsure(&self, list: u32) -> bool {
        self.unsure_lists.contains(&list)
    }

    fn list(&self, id: u32) -> String {
        let owner = self.owners.get(&id).map_or("nobody", String::as_str);
        format!("list {id} ({owner})")
    }
}

/// Says in which way a map's value is not the one that was written.
trait Differs: PartialEq {
    fn differs(&self, wanted: &Self) -> String;
}

impl Differs for Service {
    fn differs(&self, wanted: &Self) -> String {
        differing!(
            self,
            wanted,
            [
                id,
                generation,
                outside,
                inside,
                flags,
                kind,
                algorithm,
                affinity_timeout,
                maglev_offset,
                maglev_size
            ]
        )
    }
}

impl Differs for Backend {
    fn differs(&self, wanted: &Self) -> String {
        let place =
            |backend: &Self| std::net::SocketAddr::new(backend.addr.ip(), backend.port.get());
        if place(self) != place(wanted) {
            return format!("{} instead of {}", place(self), place(wanted));
        }
        differing!(self, wanted, [flags, target, target_epoch, weight])
    }
}

impl Differs for TargetState {
    fn differs(&self, wanted: &Self) -> String {
        differing!(self, wanted, [epoch, status, slot])
    }
}

impl Differs for Vip {
    fn differs(&self, wanted: &Self) -> String {
        differing!(self, wanted, [flags])
    }
}

impl Differs for () {
    fn differs(&self, (): &Self) -> String {
        String::new()
    }
}

/// Names what one map lacks, has otherwise, or has too much. `name`: None is not to be judged.
fn compare<K: Ord + Copy, V: Differs>(
    map: &str,
    wanted: &BTreeMap<K, V>,
    actual: &BTreeMap<K, V>,
    found: &mut Vec<Problem>,
    name: impl Fn(&K) -> Option<String>,
) {
    let keys: BTreeSet<K> = wanted.keys().chain(actual.keys()).copied().collect();
    for key in keys {
        let message = match (wanted.get(&key), actual.get(&key)) {
            (Some(wanted), Some(actual)) if wanted == actual => continue,
            (Some(wanted), Some(actual)) => format!("the map holds {}", actual.differs(wanted)),
            (Some(_), None) => "the map lacks it".to_owned(),
            (None, _) => "the map has it and nobody asked for it".to_owned(),
        };
        if let Some(name) = name(&key) {
            found.push(Problem { subject: format!("`{map}` {name}"), message });
        }
    }
}
