// SPDX-License-Identifier: Apache-2.0
//! Which service a frontend belongs to when several ask for it.
//!
//! A cluster IP is its service's whoever else names it, then come addresses of load balancers, which
//! a controller gave out, then external IPs, which anybody may write (CVE-2020-8554), and last
//! hostPorts. Among equals the one that has it keeps it, then the first by name gets it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::owner::Owner;
use crate::abi::{ServiceKey, ServiceKind};

#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: HashMap<ServiceKey, Owner>,
    /// What it is to its owner, unless a cluster IP.
    kinds: HashMap<ServiceKey, ServiceKind>,
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
        self.kinds.remove(key);
        self.unwritten.remove(key);
        self.waiting.get(key).into_iter().flatten().cloned().collect()
    }

    /// `name` gets `key` unless another has as good a claim; then it waits for it. Returns who lost
    /// it.
    pub(super) fn claim(
        &mut self,
        key: ServiceKey,
        kind: ServiceKind,
        name: &Owner,
    ) -> Option<Owner> {
        let mut loser = None;
        let has = self.kind(&key);
        let owned = match self.owners.entry(key) {
            Entry::Occupied(mut owner) => {
                if owner.get() != name && rank(kind) > rank(has) {
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
            if kind == ServiceKind::ClusterIp {
                self.kinds.remove(&key);
            } else {
                self.kinds.insert(key, kind);
            }
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

    /// `name` has `key`, and as `kind` its claim is weaker than it was.
    pub(super) fn is_weaker(&self, key: &ServiceKey, kind: ServiceKind, name: &Owner) -> bool {
        self.owners.get(key) == Some(name) && rank(kind) < rank(self.kind(key))
    }

    fn kind(&self, key: &ServiceKey) -> ServiceKind {
        self.kinds.get(key).copied().unwrap_or(ServiceKind::ClusterIp)
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

/// The greater wins.
fn rank(kind: ServiceKind) -> u8 {
    match kind {
        ServiceKind::ClusterIp => 4,
        ServiceKind::NodePort => 3,
        ServiceKind::LoadBalancer => 2,
        ServiceKind::ExternalIp => 1,
        ServiceKind::HostPort => 0,
    }
}
