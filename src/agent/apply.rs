// SPDX-License-Identifier: Apache-2.0
//! Carries a batch of plans out: each phase of all of them before the next phase of any.

use std::collections::{BTreeMap, HashMap};

use crate::abi::{Backend, BackendKey, Service, ServiceKey, TargetState};
use crate::datapath::Maps;
use crate::datapath::map::{Error, Failed};
use crate::lb::{Actual, Plan, Write};

/// A plan that was not carried out to the end, and the first of its writes that was refused.
#[derive(Debug)]
pub struct Refused {
    pub plan: Plan,
    pub error: Error,
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
    let mut errors: BTreeMap<usize, Error> = BTreeMap::new();
    let phases: [fn(&Plan) -> &[Write]; 4] =
        [|plan| &plan.prepare, |plan| &plan.remove, |plan| &plan.flip, |plan| &plan.gone];
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
    Ok(Actual {
        services: maps.services.entries()?.into_iter().collect(),
        backends: maps.backends.entries()?.into_iter().collect(),
        targets: targets
            .into_iter()
            .filter(|(_, state)| *state != TargetState::default())
            .collect(),
    })
}

/// The writes of one phase, by map, each with the plan it is of.
#[derive(Default)]
struct Batch {
    targets: Vec<(u32, TargetState)>,
    backends: Vec<(BackendKey, Backend)>,
    services: Vec<(ServiceKey, Service)>,
    no_services: Vec<ServiceKey>,
    target_of: HashMap<u32, usize>,
    /// By service id.
    backend_of: HashMap<u32, usize>,
    service_of: HashMap<ServiceKey, usize>,
}

impl Batch {
    fn add(&mut self, plan: usize, write: Write) {
        match write {
            Write::Target { index, state } => {
                self.targets.push((index, state));
                self.target_of.insert(index, plan);
            }
            Write::Backend { key, value } => {
                self.backends.push((key, value));
                self.backend_of.insert(key.service, plan);
            }
            Write::Service { key, value } => {
                self.services.push((key, value));
                self.service_of.insert(key, plan);
            }
            Write::RemoveService { key } => {
                self.no_services.push(key);
                self.service_of.insert(key, plan);
            }
            // Slots are removed after the grace period, by `Removals`.
            Write::RemoveBackend { .. } => {}
        }
    }

    fn write(self, maps: &Maps) -> Vec<(usize, Error)> {
        let mut errors = Vec::new();
        errors
            .extend(owners(maps.target_state.set_batch(&self.targets), |k| self.target_of.get(k)));
        errors.extend(owners(maps.backends.set_batch(&self.backends), |k| {
            self.backend_of.get(&k.service)
        }));
        errors.extend(owners(maps.services.remove_batch(&self.no_services), |k| {
            self.service_of.get(k)
        }));
        errors.extend(owners(maps.services.set_batch(&self.services), |k| self.service_of.get(k)));
        errors
    }
}

fn owners<'a, K>(
    failed: Vec<Failed<K>>,
    owner: impl Fn(&K) -> Option<&'a usize>,
) -> Vec<(usize, Error)> {
    failed.into_iter().filter_map(|f| Some((*owner(&f.key)?, f.error))).collect()
}
