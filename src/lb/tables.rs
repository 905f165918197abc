// SPDX-License-Identifier: Apache-2.0
//! Who uses which part of the map `maglev`.
//!
//! Frontends with the same backends share a table. A table never changes where it lies, and its
//! place is given away only after nobody can look at it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::annotations::Algorithm;
use super::list::List;
use super::maglev::{self, Member, Seed};
use super::plan::Plan;
use super::space::Space;
use crate::abi::{Backend, SERVICE_MAGLEV, Service, ServiceKey};

/// How backends are chosen for clients outside the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// For services that do not say it themselves.
    pub algorithm: Algorithm,
    pub seed: Seed,
    /// Entries of map `maglev`, four slots each.
    pub words: u32,
}

impl Default for Selection {
    fn default() -> Self {
        Self { algorithm: Algorithm::Random, seed: Seed::default(), words: 0 }
    }
}

/// A table to write before the frontends that use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWrite {
    /// In slots; a multiple of four.
    pub offset: u32,
    pub places: Arc<[u16]>,
}

#[derive(Debug)]
struct Held {
    /// None: an earlier agent's, which nobody has claimed.
    members: Option<Arc<[Member]>>,
    size: u32,
    holders: usize,
    /// Of what it holds.
    fingerprint: u64,
    /// What it holds, until that is known to be in the map.
    unwritten: Option<Arc<[u16]>>,
}

/// See the module's words. Tables go by their offsets.
#[derive(Debug)]
pub(super) struct Tables {
    selection: Selection,
    space: Space,
    held: HashMap<u32, Held>,
    by_members: HashMap<Arc<[Member]>, u32>,
    /// What an earlier agent's frontends point to, by fingerprint. Held until it is pruned.
    adopted: HashMap<u64, u32>,
    adopted_all: Vec<u32>,
}

impl Tables {
    pub(super) fn new(selection: Selection) -> Self {
        Self {
            selection,
            space: Space::new(selection.words),
            held: HashMap::new(),
            by_members: HashMap::new(),
            adopted: HashMap::new(),
            adopted_all: Vec::new(),
        }
    }

    /// Takes over the tables that frontends in the map point to.
    pub(super) fn adopt(
        &mut self,
        services: &BTreeMap<ServiceKey, Service>,
        tables: &BTreeMap<u32, Arc<[u16]>>,
    ) {
        for (offset, size) in pointed_to(services.values()) {
            if !self.space.take(offset, size) {
                continue;
            }
            let places = tables.get(&offset).filter(|p| p.len() == size as usize);
            let fingerprint = places.map(|places| maglev::fingerprint(places));
            let held = Held {
                members: None,
                size,
                holders: 1,
                fingerprint: fingerprint.unwrap_or_default(),
                unwritten: None,
            };
            self.held.insert(offset, held);
            self.adopted_all.push(offset);
            self.adopted.extend(fingerprint.map(|fingerprint| (fingerprint, offset)));
        }
    }

    /// Gives `entries`, a service's frontends, their tables, which `held` then lists in place of
    /// those it listed; `plan` gets the tables to write and those to release. Returns whether there
    /// was room.
    pub(super) fn assign(
        &mut self,
        algorithm: Option<Algorithm>,
        lists: &[List],
        entries: &mut BTreeMap<ServiceKey, Service>,
        held: &mut BTreeSet<u32>,
        plan: &mut Plan,
    ) -> bool {
        let before = std::mem::take(held);
        let mut room = true;
        if algorithm.unwrap_or(self.selection.algorithm) == Algorithm::Maglev {
            // One backend needs no choice.
            for entry in entries.values_mut().filter(|entry| entry.outside.count > 1) {
                let Some(list) = lists.iter().find(|list| list.id == entry.id) else { continue };
                let first = usize::from(entry.outside.first);
                let slots = &list.slots[first..first + usize::from(entry.outside.count)];
                let Some((offset, size)) = self.hold(slots.iter().map(member).collect()) else {
                    room = false;
                    continue;
                };
                entry.algorithm = SERVICE_MAGLEV;
                entry.maglev_offset = offset;
                entry.maglev_size = size;
                if !held.insert(offset) {
                    self.release(offset);
                }
            }
        }
        for offset in before {
            if held.contains(&offset) {
                self.release(offset);
            } else {
                plan.released.push(offset);
            }
        }
        plan.tables.extend(held.iter().filter_map(|offset| self.unwritten(*offset)));
        room
    }

    /// A table for `members`, which the caller then holds. None: there is no room.
    fn hold(&mut self, members: Vec<Member>) -> Option<(u32, u32)> {
        if let Some(offset) = self.by_members.get(members.as_slice()) {
            let held = self.held.get_mut(offset)?;
            held.holders += 1;
            return Some((*offset, held.size));
        }
        let places: Arc<[u16]> = maglev::table(&members, &self.selection.seed).into();
        let size = maglev::size(members.len());
        let members: Arc<[Member]> = members.into();
        let fingerprint = maglev::fingerprint(&places);
        let offset = match self.adopted.remove(&fingerprint) {
            Some(offset) => {
                let held = self.held.get_mut(&offset)?;
                held.members = Some(Arc::clone(&members));
                held.holders += 1;
                offset
            }
            None => {
                let offset = self.space.give(size)?;
                let members = Some(Arc::clone(&members));
                let held = Held { members, size, holders: 1, fingerprint, unwritten: Some(places) };
                self.held.insert(offset, held);
                offset
            }
        };
        self.by_members.insert(members, offset);
        Some((offset, size))
    }

    /// Whether `places` are what the table at `offset` was written with, as far as that is known.
    pub(super) fn is_written(&self, offset: u32, places: &[u16]) -> bool {
        self.held.get(&offset).is_none_or(|held| {
            let judged = held.members.is_some() && held.unwritten.is_none();
            !judged || held.fingerprint == maglev::fingerprint(places)
        })
    }

    fn unwritten(&self, offset: u32) -> Option<TableWrite> {
        let places = self.held.get(&offset)?.unwritten.clone()?;
        Some(TableWrite { offset, places })
    }

    pub(super) fn written(&mut self, write: &TableWrite) {
        if let Some(held) = self.held.get_mut(&write.offset) {
            held.unwritten = None;
        }
    }

    /// One holder less. Returns whether there is more room now.
    pub(super) fn release(&mut self, offset: u32) -> bool {
        let Some(held) = self.held.get_mut(&offset) else { return false };
        held.holders -= 1;
        if held.holders > 0 {
            return false;
        }
        let size = held.size;
        if let Some(members) = self.held.remove(&offset).and_then(|held| held.members) {
            self.by_members.remove(&members);
        }
        self.space.free(offset, size);
        true
    }

    /// Entries of the map that are taken.
    pub(super) fn in_use(&self) -> u64 {
        u64::from(self.selection.words) - self.space.free_words()
    }

    /// What was adopted, for the last plan that releases it.
    pub(super) fn prune(&mut self) -> Vec<u32> {
        self.adopted.clear();
        std::mem::take(&mut self.adopted_all)
    }
}

fn member(backend: &Backend) -> Member {
    Member { addr: backend.addr, port: backend.port.get(), weight: backend.weight }
}

/// Offset and size of every table that `services` use.
pub fn pointed_to<'a>(services: impl Iterator<Item = &'a Service>) -> BTreeSet<(u32, u32)> {
    services
        .filter(|service| service.algorithm == SERVICE_MAGLEV && service.maglev_size > 0)
        .map(|service| (service.maglev_offset, service.maglev_size))
        .collect()
}
