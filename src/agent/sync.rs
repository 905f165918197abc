// SPDX-License-Identifier: Apache-2.0
//! Services and endpoint slices into the maps: gathers changes, writes, removes what is left over,
//! tries again what failed.
//!
//! It is told the time and owns no timer: [`ServiceSync::due`] says when [`ServiceSync::step`] has
//! something to do.

mod problems;
mod reserve;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::apply::{apply, read};
use super::chain;
use super::retry::Retries;
use crate::abi::{BackendKey, GoneTarget};
use crate::datapath::Maps;
use crate::datapath::map::Error;
use crate::lb::{Balancer, Context, GRACE, Owner, Plan, Selection, Target, Trigger, Write};
use crate::model::{Change, Kind, Object, ObjectKey, Protocol};
pub use reserve::ReserveError;

/// A burst is gathered for at most this long; the first change after a pause acts at once.
const GATHER: Duration = Duration::from_millis(50);

/// Services in one batch: between two batches the loop looks at everything else.
const BATCH: usize = 512;

/// What one step did.
#[derive(Debug, Default)]
pub struct Step {
    /// Services whose maps were brought up to date.
    pub applied: usize,
    pub failed: usize,
    /// Targets that UDP sockets may still be connected to.
    pub ended: Vec<GoneTarget>,
    /// Of the slices that are in the maps now.
    pub triggered: Vec<Trigger>,
    pub took: Duration,
}

/// Work that is tried again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Service(Owner),
    Prune,
    Removals,
}

/// See the module's words.
#[derive(Debug)]
pub struct ServiceSync {
    balancer: Balancer,
    maps: Arc<Maps>,
    listed: BTreeSet<Kind>,
    pruned: bool,
    /// Slots to remove, by the time from which nobody can look for them.
    removals: Vec<(Instant, Vec<BackendKey>)>,
    /// Tables to hand back, by the same time.
    released: Vec<(Instant, Vec<u32>)>,
    retries: Retries<Work>,
    /// Of what is tried again, what waits for room in a map.
    crowded: BTreeSet<Work>,
    /// When the last burst was written.
    wrote: Option<Instant>,
}

impl ServiceSync {
    /// Starts from what the maps hold. `reserved` are the targets of others than services.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn adopt(
        maps: Arc<Maps>,
        context: Context,
        selection: Selection,
        reserved: &[Target],
    ) -> Result<Self, Error> {
        let selection = Selection { words: maps.maglev.max_entries(), ..selection };
        let mut balancer =
            Balancer::new(context, maps.target_state.max_entries()).with_selection(selection);
        balancer.adopt(read(&maps)?, reserved);
        Ok(Self {
            balancer,
            maps,
            listed: BTreeSet::new(),
            pruned: false,
            removals: Vec::new(),
            released: Vec::new(),
            retries: Retries::default(),
            crowded: BTreeSet::new(),
            wrote: None,
        })
    }

    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Slices changed since this was asked last, IPv4 first.
    pub fn take_changed_slices(&mut self) -> [u64; 2] {
        self.balancer.take_changed_slices()
    }

    pub fn set_context(&mut self, context: Context) {
        // What an earlier agent answered health checks with can go only once the node is known.
        let known = self.balancer.context().addresses.is_empty() && !context.addresses.is_empty();
        self.pruned &= !known;
        self.balancer.set_context(context);
    }

    /// Takes a change of a service or slice; returns the number of objects that differ now.
    pub fn change(&mut self, change: Change) -> usize {
        let changed = match change {
            Change::Set(Object::Service(service)) => self.balancer.set_service(service),
            Change::Set(Object::Slice(slice)) => self.balancer.set_slice(slice),
            Change::Removed(ObjectKey::Service(name)) => self.balancer.remove_service(&name),
            Change::Removed(ObjectKey::Slice(name)) => self.balancer.remove_slice(&name),
            Change::Set(Object::Pod(pod)) => self.balancer.set_pod(pod),
            Change::Removed(ObjectKey::Pod(name)) => self.balancer.remove_pod(&name),
            Change::Listed(kind, objects) => return self.list(kind, objects),
            Change::Set(_) | Change::Removed(_) => false,
        };
        usize::from(changed)
    }

    fn list(&mut self, kind: Kind, objects: Vec<Object>) -> usize {
        if self.listed.insert(kind) && kind == Kind::Pod {
            // What an earlier agent wrote of hostPorts can go only now.
            self.pruned = false;
        }
        let objects = objects.into_iter();
        match kind {
            Kind::Service => self.balancer.list_services(
                objects
                    .filter_map(|o| if let Object::Service(s) = o { Some(s) } else { None })
                    .collect(),
            ),
            Kind::EndpointSlice => self.balancer.list_slices(
                objects
                    .filter_map(|o| if let Object::Slice(s) = o { Some(s) } else { None })
                    .collect(),
            ),
            Kind::Pod => self.balancer.list_pods(
                objects
                    .filter_map(|o| if let Object::Pod(p) = o { Some(p) } else { None })
                    .collect(),
            ),
            Kind::Node => 0,
        }
    }

    /// Services and slices have both been listed. Before, an absent slice says nothing, and
    /// nothing is written: what an earlier agent wrote goes on.
    pub fn listed(&self) -> bool {
        self.listed.contains(&Kind::Service) && self.listed.contains(&Kind::EndpointSlice)
    }

    /// Everything listed is written and what an earlier agent left over is gone.
    pub fn synced(&self) -> bool {
        self.pruned && self.balancer.pending() == 0 && self.retries.is_empty()
    }

    /// As [`Self::synced`], but for what waits for room in a map. That is no fault of this node: all
    /// nodes have the same room, and without the others' services nobody would be better off.
    pub fn settled(&self) -> bool {
        let crowded = self.retries.all().all(|work| self.crowded.contains(work));
        self.pruned && self.balancer.pending() == 0 && crowded
    }

    /// What an earlier agent left over is gone.
    pub fn pruned(&self) -> bool {
        self.pruned
    }

    /// Slots that are still to be removed.
    pub fn leaving(&self) -> impl Iterator<Item = BackendKey> {
        self.removals.iter().flat_map(|(_, slots)| slots.iter().copied())
    }

    /// Services whose writes are not done.
    pub fn pending(&self) -> usize {
        let failed = self.retries.reasons().filter(|(w, _)| matches!(w, Work::Service(_))).count();
        self.balancer.pending() + failed
    }

    /// When [`Self::step`] has something to do; None: not before the next change.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let removal = self.removals.iter().map(|(at, _)| *at).min();
        let release = self.released.iter().map(|(at, _)| *at).min();
        let changes = (self.listed() && (self.balancer.pending() > 0 || !self.pruned))
            .then(|| self.wrote.map_or(now, |wrote| wrote + GATHER));
        [removal, release, changes, self.retries.next()].into_iter().flatten().min()
    }

    /// Does what is due at `now`: one batch at most, so that the caller can look around.
    pub fn step(&mut self, now: Instant) -> Step {
        let mut step = Step::default();
        let started = Instant::now();
        for work in self.retries.due(now) {
            match work {
                Work::Service(name) => self.balancer.retry(&name),
                Work::Prune => self.pruned = false,
                Work::Removals => {}
            }
        }
        self.remove_slots(now);
        self.release_tables(now);
        if self.listed() {
            let gathered = self.wrote.is_none_or(|wrote| wrote + GATHER <= now);
            if self.balancer.pending() > 0 && gathered {
                let plans = self.balancer.plan(BATCH);
                self.write(plans, now, &mut step);
                // A burst that takes several batches is one burst.
                if self.balancer.pending() == 0 {
                    self.wrote = Some(now);
                }
            }
            if self.balancer.pending() == 0 && !self.pruned {
                self.pruned = true;
                let plan = self.balancer.prune(self.listed.contains(&Kind::Pod));
                self.write(vec![plan], now, &mut step);
            }
        }
        step.took = started.elapsed();
        step
    }

    fn write(&mut self, plans: Vec<Plan>, now: Instant, step: &mut Step) {
        let outcome = apply(&self.maps, plans);
        // Not `now`: the grace period starts when the writes are done.
        let written = Instant::now();
        for plan in outcome.applied {
            self.balancer.applied(&plan);
            let ended = plan.ended.iter().filter(|gone| gone.proto != Protocol::Tcp.number());
            step.ended.extend(ended.map(|gone| GoneTarget {
                target: gone.target,
                epoch: gone.target_epoch,
                pad: 0,
            }));
            step.applied += usize::from(plan.owner.is_some());
            step.triggered.extend(plan.triggered);
            let slots = plan.later.iter().filter_map(|write| match write {
                Write::RemoveBackend { key } => Some(*key),
                _ => None,
            });
            let slots: Vec<BackendKey> = slots.collect();
            if !slots.is_empty() {
                self.removals.push((written + GRACE, slots));
            }
            if !plan.released.is_empty() {
                self.released.push((written + GRACE, plan.released));
            }
            let work = plan.owner.map_or(Work::Prune, Work::Service);
            self.retries.done(&work);
            self.crowded.remove(&work);
        }
        for refused in outcome.refused {
            step.failed += 1;
            let work = refused.plan.owner.clone().map_or(Work::Prune, Work::Service);
            let reason = chain(&*refused.error);
            tracing::warn!(?work, error = %reason, "map write refused");
            if matches!(*refused.error, Error::Full { .. }) {
                self.crowded.insert(work.clone());
            } else {
                self.crowded.remove(&work);
            }
            self.retries.failed(work, reason, now);
            self.balancer.failed(refused.plan);
        }
    }

    fn release_tables(&mut self, now: Instant) {
        let (due, rest): (Vec<_>, _) =
            std::mem::take(&mut self.released).into_iter().partition(|(at, _)| *at <= now);
        self.released = rest;
        due.iter().for_each(|(_, offsets)| self.balancer.release_tables(offsets));
    }

    fn remove_slots(&mut self, now: Instant) {
        let (due, rest) =
            std::mem::take(&mut self.removals).into_iter().partition(|(at, _)| *at <= now);
        self.removals = rest;
        let slots: Vec<BackendKey> =
            Vec::<(Instant, _)>::into_iter(due).flat_map(|(_, s)| s).collect();
        if slots.is_empty() {
            return;
        }
        let failed = self.maps.backends.remove_batch(&slots);
        let Some(first) = failed.first() else {
            self.retries.done(&Work::Removals);
            return;
        };
        self.retries.failed(Work::Removals, chain(&first.error), now);
        let again = self.retries.next().unwrap_or(now + GRACE);
        self.removals.push((again, failed.into_iter().map(|f| f.key).collect()));
    }
}
