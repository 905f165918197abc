// SPDX-License-Identifier: Apache-2.0
//! Turns one kind's watch events into changes. Pure: no client, no clock.

use std::collections::{BTreeMap, HashSet};
use std::mem;

use ::kube::runtime::watcher::Event;

use crate::k8s::decode::{Decoded, Decoder, Wire};
use crate::model::{Change, Object, ObjectKey, Problem};

/// What the consumer knows of one kind, and what is wrong with the rest.
#[derive(Debug)]
pub(super) struct Feed {
    decoder: Decoder,
    /// What has been sent and not removed.
    known: HashSet<ObjectKey>,
    /// Objects that could not be decoded. What they replaced stays in force.
    pub problems: BTreeMap<ObjectKey, Problem>,
    listing: Listing,
}

/// A list being received.
#[derive(Debug, Default)]
struct Listing {
    objects: Vec<Object>,
    keys: HashSet<ObjectKey>,
    problems: BTreeMap<ObjectKey, Problem>,
}

impl Feed {
    pub fn new(proxy_name: Option<String>) -> Self {
        Self {
            decoder: Decoder::new(proxy_name),
            known: HashSet::new(),
            problems: BTreeMap::new(),
            listing: Listing::default(),
        }
    }

    pub fn changes<K: Wire>(&mut self, event: Event<K>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.listing = Listing::default();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.list(&object);
                Vec::new()
            }
            Event::InitDone => self.listed::<K>(),
            Event::Apply(object) => self.apply(&object),
            Event::Delete(object) => match object.key(&mut self.decoder) {
                Ok(key) => {
                    self.problems.remove(&key);
                    self.remove(key)
                }
                // The server names every object.
                Err(_) => Vec::new(),
            },
        }
    }

    fn list<K: Wire>(&mut self, object: &K) {
        let Ok(key) = object.key(&mut self.decoder) else { return };
        match object.decode(&mut self.decoder) {
            Ok(Decoded::Ours(object)) => {
                self.listing.keys.insert(key);
                self.listing.objects.push(object);
            }
            Ok(Decoded::NotOurs(..)) => {}
            Err(error) => {
                self.listing.problems.insert(key, problem(&error));
            }
        }
    }

    fn listed<K: Wire>(&mut self) -> Vec<Change> {
        let Listing { objects, mut keys, problems } = mem::take(&mut self.listing);
        self.problems = problems;
        let kept: Vec<_> = self.known.iter().filter(|k| self.problems.contains_key(k)).collect();
        if kept.is_empty() {
            self.known = keys;
            return vec![Change::Listed(K::KIND, objects)];
        }
        // A whole list would take away what a now unusable object left in force.
        let gone = |key: &&ObjectKey| !keys.contains(key) && !self.problems.contains_key(key);
        let removed: Vec<_> = self.known.iter().filter(gone).cloned().collect();
        keys.extend(kept.into_iter().cloned());
        self.known = keys;
        removed
            .into_iter()
            .map(Change::Removed)
            .chain(objects.into_iter().map(Change::Set))
            .collect()
    }

    fn apply<K: Wire>(&mut self, object: &K) -> Vec<Change> {
        let Ok(key) = object.key(&mut self.decoder) else { return Vec::new() };
        match object.decode(&mut self.decoder) {
            Ok(Decoded::Ours(object)) => {
                self.problems.remove(&key);
                self.known.insert(key);
                vec![Change::Set(object)]
            }
            Ok(Decoded::NotOurs(..)) => {
                self.problems.remove(&key);
                self.remove(key)
            }
            Err(error) => {
                self.problems.insert(key, problem(&error));
                Vec::new()
            }
        }
    }

    fn remove(&mut self, key: ObjectKey) -> Vec<Change> {
        if self.known.remove(&key) { vec![Change::Removed(key)] } else { Vec::new() }
    }
}

fn problem(error: &crate::k8s::decode::Error) -> Problem {
    Problem { subject: error.object.clone(), message: error.to_string() }
}
