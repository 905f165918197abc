// SPDX-License-Identifier: Apache-2.0
//! Carries a batch of plans out: each phase of all of them before the next phase of any.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use crate::abi::{
    Addr, Backend, BackendKey, Service, ServiceKey, SourceRange, SourceRangeKey, TargetState, Vip,
};
use crate::datapath::Maps;
use crate::datapath::map::{Error, Failed, Map, Plain};
use crate::lb::{self, Actual, Plan, Write};

/// A plan that was not carried out to the end, and the first of its writes that was refused.
#[derive(Debug)]
pub struct Refused {
    pub plan: Plan,
    pub error: Arc<Error>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    pub applied: Vec<Plan>,
    pub refused: Vec<Refused>,
}

/// Writes all phases but `later`. A plan whose write is refused is left at that phase; the others
/// go on.
pub fn apply(maps: &Maps, plans: Vec<Plan>) -> Outcome {
    let mut errors: BTreeMap<usize, Arc<Error>> = BTreeMap::new();
    for (number, plan) in plans.iter().enumerate().filter(|(_, plan)| !plan.tables.is_empty()) {
        let tables = plan.tables.iter().map(|table| (table.offset, &*table.places));
        if let Err(error) = maps.maglev.write(tables) {
            errors.insert(number, Arc::new(error));
        }
    }
    let phases: [fn(&Plan) -> &[Write]; 5] = [
        |plan| &plan.prepare,
        |plan| &plan.remove,
        |plan| &plan.renumber,
        |plan| &plan.flip,
        |plan| &plan.gone,
    ];
    for phase in phases {
        let mut batch = Batch::default();
        let going = plans.iter().enumerate().filter(|(number, _)| !errors.contains_key(number));
        for (number, plan) in going {
            phase(plan).iter().for_each(|write| batch.add(number, *write));
        }
        for (number, error) in batch.write(maps) {
            errors.entry(number).or_insert(error);
        }
    }
    let mut outcome = Outcome::default();
    for (number, plan) in plans.into_iter().enumerate() {
        match errors.remove(&number) {
            None => outcome.applied.push(plan),
            Some(error) => outcome.refused.push(Refused { plan, error }),
        }
    }
    outcome
}

/// Everything the maps hold of services.
///
/// # Errors
/// A map cannot be read.
pub fn read(maps: &Maps) -> Result<Actual, Error> {
    let targets = maps.target_state.entries()?;
    let services: BTreeMap<ServiceKey, Service> = maps.services.entries()?.into_iter().collect();
    Ok(Actual {
        tables: tables(maps, &services)?,
        services,
        backends: maps.backends.entries()?.into_iter().collect(),
        targets: targets
            .into_iter()
            .filter(|(_, state)| *state != TargetState::default())
            .collect(),
        vips: maps.vips.entries()?.into_iter().collect(),
        source_ranges: maps.source_ranges.entries()?.into_iter().map(|(key, _)| key).collect(),
        host_ports: maps.host_ports()?,
    })
}

/// Of a table beyond the end of a map that has become smaller nothing is left.
fn tables(
    maps: &Maps,
    services: &BTreeMap<ServiceKey, Service>,
) -> Result<BTreeMap<u32, Arc<[u16]>>, Error> {
    let mut tables = BTreeMap::new();
    for (offset, size) in lb::tables_of(services.values()) {
        match maps.maglev.read(offset, size) {
            Ok(places) => _ = tables.insert(offset, places.into()),
            Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tables)
}

/// The writes of one phase, by map, each with the plans that depend on it.
#[derive(Default)]
struct Batch {
    targets: Writes<u32, TargetState>,
    backends: Writes<BackendKey, Backend>,
    vips: Writes<Addr, Vip>,
    source_ranges: Writes<SourceRangeKey, SourceRange>,
    services: Writes<ServiceKey, Service>,
    host_ports: Option<(usize, u32)>,
}

impl Batch {
    fn add(&mut self, plan: usize, write: Write) {
        match write {
            Write::Target { index, state } => self.targets.set(plan, index, state),
            Write::Backend { key, value } => self.backends.set(plan, key, value),
            Write::Vip { addr, value } => self.vips.set(plan, addr, value),
            Write::SourceRange { key } => self.source_ranges.set(plan, key, SourceRange::default()),
            Write::Service { key, value } => self.services.set(plan, key, value),
            Write::HostPorts { count } => self.host_ports = Some((plan, count)),
            Write::RemoveService { key } => self.services.remove(plan, key),
            Write::RemoveVip { addr } => self.vips.remove(plan, addr),
            Write::RemoveSourceRange { key } => self.source_ranges.remove(plan, key),
            // Slots are removed after the grace period, by `Removals`.
            Write::RemoveBackend { .. } => {}
        }
    }

    fn write(self, maps: &Maps) -> Vec<(usize, Arc<Error>)> {
        let mut errors = Vec::new();
        if let Some((plan, count)) = self.host_ports {
            errors.extend(maps.set_host_ports(count).err().map(|error| (plan, Arc::new(error))));
        }
        self.targets.write(&maps.target_state, &mut errors);
        self.backends.write(&maps.backends, &mut errors);
        self.vips.write(&maps.vips, &mut errors);
        self.source_ranges.write(&maps.source_ranges, &mut errors);
        self.services.write(&maps.services, &mut errors);
        errors
    }
}

/// The writes to one map. An address may be written for several plans, each with the same value.
struct Writes<K, V> {
    set: Vec<(K, V)>,
    remove: Vec<K>,
    plans: HashMap<K, Plans>,
}

/// Most writes are one plan's.
enum Plans {
    One(usize),
    Many(Vec<usize>),
}

impl<K, V> Default for Writes<K, V> {
    fn default() -> Self {
        Self { set: Vec::new(), remove: Vec::new(), plans: HashMap::new() }
    }
}

impl<K: Plain + Eq + Hash, V: Plain> Writes<K, V> {
    fn set(&mut self, plan: usize, key: K, value: V) {
        if self.depends(plan, key) {
            self.set.push((key, value));
        }
    }

    fn remove(&mut self, plan: usize, key: K) {
        if self.depends(plan, key) {
            self.remove.push(key);
        }
    }

    /// Whether `plan` is the first that needs `key`.
    fn depends(&mut self, plan: usize, key: K) -> bool {
        match self.plans.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Plans::One(plan));
                true
            }
            Entry::Occupied(mut place) => {
                match place.get_mut() {
                    Plans::One(first) => *place.get_mut() = Plans::Many(vec![*first, plan]),
                    Plans::Many(plans) => plans.push(plan),
                }
                false
            }
        }
    }

    fn write(mut self, map: &Map<K, V>, errors: &mut Vec<(usize, Arc<Error>)>) {
        let mut failed = map.remove_batch(&self.remove);
        failed.extend(map.set_batch(&self.set));
        for Failed { key, error } in failed {
            let error = Arc::new(error);
            match self.plans.remove(&key) {
                None => {}
                Some(Plans::One(plan)) => errors.push((plan, error)),
                Some(Plans::Many(plans)) => {
                    errors.extend(plans.into_iter().map(|plan| (plan, Arc::clone(&error))));
                }
            }
        }
    }
}
