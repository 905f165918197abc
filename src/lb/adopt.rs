// SPDX-License-Identifier: Apache-2.0
//! What an earlier agent left in the maps, until a service claims it or it is pruned.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::list::{Garbage, List, ListKey};
use super::plan::Actual;
use crate::abi::{Addr, Backend, Service, ServiceKey, SourceRangeKey, TargetState, TargetStatus};

/// Slots of one generation by number; with holes when the earlier agent died while it wrote.
type Slots = BTreeMap<u32, Backend>;

#[derive(Debug, Default)]
pub(super) struct Adopted {
    services: BTreeMap<ServiceKey, Service>,
    keys: HashMap<u32, Vec<ServiceKey>>,
    generations: HashMap<u32, BTreeMap<u32, Slots>>,
    ranges: HashMap<u32, Vec<SourceRangeKey>>,
    /// States as they are found, until a list has taken the target over.
    pub(super) states: BTreeMap<u32, TargetState>,
    /// Targets that were somebody's, and are nobody's if they are still here at the end.
    pub(super) unowned: BTreeSet<u32>,
}

/// A list that is somebody's again.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) list: List,
    pub(super) frontends: Vec<(ServiceKey, Service)>,
    pub(super) garbage: Vec<Garbage>,
    pub(super) ranges: Vec<SourceRangeKey>,
}

impl Adopted {
    pub(super) fn new(actual: Actual) -> Self {
        let mut keys: HashMap<u32, Vec<ServiceKey>> = HashMap::new();
        for (key, service) in &actual.services {
            keys.entry(service.id).or_default().push(*key);
        }
        let mut generations: HashMap<u32, BTreeMap<u32, Slots>> = HashMap::new();
        for (key, backend) in actual.backends {
            let of_id = generations.entry(key.service).or_default();
            of_id.entry(key.generation).or_default().insert(key.slot, backend);
        }
        let mut ranges: HashMap<u32, Vec<SourceRangeKey>> = HashMap::new();
        for key in actual.source_ranges {
            ranges.entry(key.service).or_default().push(key);
        }
        let unowned =
            actual.targets.iter().filter(|(_, state)| alive(state)).map(|(index, _)| *index);
        let unowned = unowned.collect();
        let (services, states) = (actual.services, actual.targets);
        Self { services, keys, generations, ranges, states, unowned }
    }

    pub(super) fn last_id(&self) -> u32 {
        self.keys
            .keys()
            .chain(self.generations.keys())
            .chain(self.ranges.keys())
            .copied()
            .max()
            .unwrap_or(0)
    }

    /// The list that one of `keys` led to, with all that belongs to its id.
    pub(super) fn find<'a>(
        &mut self,
        key: ListKey,
        mut keys: impl Iterator<Item = &'a ServiceKey>,
    ) -> Option<Found> {
        if self.services.is_empty() {
            return None;
        }
        let id = keys.find_map(|key| self.services.get(key))?.id;
        let frontends: Vec<(ServiceKey, Service)> = self
            .keys
            .remove(&id)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|key| Some((key, self.services.remove(&key)?)))
            .collect();
        let mut generations = self.generations.remove(&id).unwrap_or_default();

        let newest = generations.keys().next_back().copied().unwrap_or(0);
        let current = frontends.iter().map(|(_, service)| service.generation).max().unwrap_or(0);
        let mut list = List::new(key, id);
        list.generation = current;
        list.latest = newest.max(current);
        if let Some(slots) = generations.remove(&current) {
            if whole(&slots) && self.alive(&slots) {
                list.slots = slots.into_values().collect();
            } else {
                list.uncertain = true;
                generations.insert(current, slots);
            }
        }
        let garbage =
            generations.into_iter().map(|(generation, slots)| garbage(id, generation, &slots));
        let ranges = self.ranges.remove(&id).unwrap_or_default();
        Some(Found { list, frontends, garbage: garbage.collect(), ranges })
    }

    /// Frontends of a sort with all that belongs to them.
    pub(super) fn take(&mut self, is_one: impl Fn(&ServiceKey, &Service) -> bool) -> Self {
        let mut taken = Self::default();
        let services = std::mem::take(&mut self.services);
        (taken.services, self.services) = services.into_iter().partition(|(k, v)| is_one(k, v));
        let ids: BTreeSet<u32> = taken.services.values().map(|value| value.id).collect();
        for id in ids {
            taken.keys.extend(self.keys.remove(&id).map(|keys| (id, keys)));
            let generations = self.generations.remove(&id);
            let slots = generations.iter().flat_map(BTreeMap::values).flat_map(BTreeMap::values);
            for target in slots.map(|backend| backend.target) {
                taken.states.extend(self.states.remove(&target).map(|state| (target, state)));
                taken.unowned.extend(self.unowned.take(&target));
            }
            taken.generations.extend(generations.map(|of_id| (id, of_id)));
        }
        taken
    }

    /// Whether the frontend is still nobody's.
    pub(super) fn has_frontend(&self, key: &ServiceKey) -> bool {
        self.services.contains_key(key)
    }

    /// Whether slots or ranges of this id are still nobody's.
    pub(super) fn has_list(&self, id: u32) -> bool {
        self.generations.contains_key(&id) || self.ranges.contains_key(&id)
    }

    /// Addresses of frontends that nobody has claimed.
    pub(super) fn vips(&self) -> HashSet<Addr> {
        self.services.keys().map(|key| key.vip).collect()
    }

    /// The frontends, slots and source ranges that nobody claimed.
    pub(super) fn prune(&mut self) -> (Vec<ServiceKey>, Vec<Garbage>, Vec<SourceRangeKey>) {
        self.keys.clear();
        let services = std::mem::take(&mut self.services).into_keys().collect();
        let generations = std::mem::take(&mut self.generations);
        let garbage = generations.into_iter().flat_map(|(id, of_id)| {
            of_id.into_iter().map(move |(generation, slots)| garbage(id, generation, &slots))
        });
        let ranges = std::mem::take(&mut self.ranges).into_values().flatten();
        (services, garbage.collect(), ranges.collect())
    }

    /// Every slot's target is still what the slot says.
    fn alive(&self, slots: &Slots) -> bool {
        slots.values().all(|backend| {
            let state = self.states.get(&backend.target);
            state.is_some_and(|state| state.epoch == backend.target_epoch && alive(state))
        })
    }
}

fn alive(state: &TargetState) -> bool {
    state.status == TargetStatus::Active as u8 || state.status == TargetStatus::Terminating as u8
}

fn whole(slots: &Slots) -> bool {
    slots.len() as u64 == slots.last_key_value().map_or(0, |(last, _)| u64::from(*last) + 1)
}

fn garbage(id: u32, generation: u32, slots: &Slots) -> Garbage {
    let count = slots.last_key_value().map_or(0, |(last, _)| last + 1);
    Garbage { id, generation, count }
}
