// SPDX-License-Identifier: Apache-2.0
//! Which service a frontend belongs to when several ask for it: the one that has it keeps it, then
//! the first by name gets it. A hostPort has it only while no service asks.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::owner::Owner;
use crate::abi::ServiceKey;

#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: HashMap<ServiceKey, Owner>,
    waiting: BTreeMap<ServiceKey, BTreeSet<Owner>>,
    /// Frontends that have an owner, which has not written them yet.
    unwritten: HashSet<ServiceKey>,
}

impl Claims {
    /// `name` gives `key` up. Returns who waits for it.
    pub(super) fn release(&mut self, key: &ServiceKey, name: &Owner) -> Vec<Owner> {
        self.leave(key, name);
        if self.owners.get(key) != Some(name) {
            return Vec::new();
        }
        self.owners.remove(key);
        self.unwritten.remove(key);
        self.waiting.get(key).into_iter().flatten().cloned().collect()
    }

    /// `name` gets `key` unless another has it; then it waits for it. Returns who lost it: a hostPort
    /// gives way to a service.
    pub(super) fn claim(&mut self, key: ServiceKey, name: &Owner) -> Option<Owner> {
        let mut loser = None;
        let owned = match self.owners.entry(key) {
            Entry::Occupied(mut owner) => {
                if owner.get().is_host_port() && !name.is_host_port() {
                    self.unwritten.insert(key);
                    loser = Some(owner.insert(name.clone()));
                }
                owner.get() == name
            }
            Entry::Vacant(place) => {
                place.insert(name.clone());
                self.unwritten.insert(key);
                true
            }
        };
        if owned {
            self.leave(&key, name);
        } else {
            self.waiting.entry(key).or_default().insert(name.clone());
        }
        if let Some(loser) = &loser {
            self.waiting.entry(key).or_default().insert(loser.clone());
        }
        loser
    }

    pub(super) fn owner(&self, key: &ServiceKey) -> Option<&Owner> {
        self.owners.get(key)
    }

    /// Every frontend that somebody has, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ServiceKey, &Owner)> {
        self.owners.iter()
    }

    /// The owner of `key` has written it.
    pub(super) fn written(&mut self, key: &ServiceKey) {
        self.unwritten.remove(key);
    }

    /// Whether what the map holds for `key` is another's than `name`'s: it is not `name`'s to
    /// remove. While the new owner has yet to write it, it is still the old owner's.
    pub(super) fn is_anothers(&self, key: &ServiceKey, name: Option<&Owner>) -> bool {
        self.owners.get(key).is_some_and(|owner| Some(owner) != name)
            && !self.unwritten.contains(key)
    }

    /// Everything `name` waits for.
    pub(super) fn waits(&self, name: &Owner) -> Vec<ServiceKey> {
        let waits = self.waiting.iter().filter(|(_, names)| names.contains(name));
        waits.map(|(key, _)| *key).collect()
    }

    /// Every frontend that somebody waits for, with its owner and who waits.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = (&ServiceKey, &Owner, &Owner)> {
        self.waiting.iter().flat_map(move |(key, names)| {
            names.iter().filter_map(move |name| Some((key, self.owners.get(key)?, name)))
        })
    }

    fn leave(&mut self, key: &ServiceKey, name: &Owner) {
        if let Some(names) = self.waiting.get_mut(key) {
            names.remove(name);
            if names.is_empty() {
                self.waiting.remove(key);
            }
        }
    }
}
