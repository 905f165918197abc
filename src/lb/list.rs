// SPDX-License-Identifier: Apache-2.0
//! One backend list: the slots of one service port in one family, under one id.

use std::collections::BTreeMap;

use super::endpoints::{Candidate, Class, Ranges};
use super::plan::{Gone, Plan, Write};
use super::targets::{Target, Targets};
use crate::abi::{
    Addr, BACKEND_NOT_READY, BACKEND_TERMINATING, Backend, BackendKey, TargetState, TargetStatus,
};
use crate::model::Protocol;

/// Slot numbers are 16 bit wide.
const SLOTS_MAX: usize = u16::MAX as usize;

/// What tells a service's lists apart. The port's name may change, its number and protocol name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListKey {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) v6: bool,
}

/// Slots of one generation that nothing will point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage {
    pub(super) id: u32,
    pub(super) generation: u32,
    pub(super) count: u32,
}

impl Garbage {
    pub(super) fn keys(self) -> impl Iterator<Item = BackendKey> {
        let (service, generation) = (self.id, self.generation);
        (0..self.count).map(move |slot| BackendKey { service, generation, slot })
    }

    pub(super) fn removals(self) -> impl Iterator<Item = Write> {
        self.keys().map(|key| Write::RemoveBackend { key })
    }
}

/// A list as it was written, or is being written.
#[derive(Debug)]
pub(super) struct List {
    pub(super) key: ListKey,
    pub(super) id: u32,
    pub(super) generation: u32,
    /// The last generation of which any slot may have been written.
    pub(super) latest: u32,
    pub(super) slots: Box<[Backend]>,
    /// A write failed: which of the slots and target states arrived is not known.
    pub(super) uncertain: bool,
}

impl List {
    pub(super) fn new(key: ListKey, id: u32) -> Self {
        Self { key, id, generation: 0, latest: 0, slots: Box::default(), uncertain: false }
    }

    /// Plans the way to `wanted`. `known` are states found in the map at the start. Returns the ranges of what the list then holds, and how many of
    /// `wanted` found no slot or target.
    pub(super) fn update(
        &mut self,
        wanted: &[Candidate],
        targets: &mut Targets,
        known: &mut BTreeMap<u32, TargetState>,
        plan: &mut Plan,
        garbage: &mut Vec<Garbage>,
    ) -> (Ranges, usize) {
        let written = |slot: u16, b: &Backend| (target(b), target(b).state(status(b.flags), slot));
        let mut old: BTreeMap<(Addr, u16), (Target, TargetState)> = (0u16..)
            .zip(&self.slots)
            .map(|(slot, b)| ((b.addr, b.port.get()), written(slot, b)))
            .collect();
        let mut slots = Vec::with_capacity(wanted.len());
        let mut classes: Vec<Class> = Vec::with_capacity(wanted.len());

        for (slot, candidate) in (0u16..).zip(wanted.iter().take(SLOTS_MAX)) {
            let flags = candidate.class.flags();
            let previous = old.remove(&(candidate.addr, candidate.port));
            let (target, written) = match previous {
                Some((target, state)) => {
                    (target, Some(known.remove(&target.index).unwrap_or(state)))
                }
                None => match targets.give() {
                    Ok(target) => {
                        known.remove(&target.index);
                        (target, None)
                    }
                    Err(_) => break,
                },
            };
            let state = target.state(status(flags), slot);
            let write = Write::Target { index: target.index, state };
            match written {
                None => plan.prepare.push(write),
                Some(old) if self.uncertain || old != state => plan.renumber.push(write),
                Some(_) => {}
            }
            classes.push(candidate.class);
            slots.push(Backend {
                addr: candidate.addr,
                port: candidate.port.into(),
                flags,
                target: target.index,
                target_epoch: target.epoch,
                weight: candidate.weight,
                pad: 0,
            });
        }

        plan.ended.extend(old.into_iter().map(|((addr, port), (target, _))| Gone {
            service: self.id,
            addr,
            port,
            proto: self.key.protocol.number(),
            target: target.index,
            target_epoch: target.epoch,
        }));
        if self.uncertain || self.generation == 0 || *slots != *self.slots {
            garbage.extend(self.discard());
            self.latest += 1;
            self.generation = self.latest;
            self.slots = slots.into();
            plan.prepare.extend((0u32..).zip(&self.slots).map(|(slot, value)| Write::Backend {
                key: BackendKey { service: self.id, generation: self.generation, slot },
                value: *value,
            }));
        }
        self.uncertain = false;
        (Ranges::of(classes.iter().copied()), wanted.len() - classes.len())
    }

    /// What `target_state` holds for the slots.
    pub(super) fn states(&self) -> impl Iterator<Item = (u32, TargetState)> {
        (0u16..).zip(&self.slots).map(|(slot, backend)| {
            (backend.target, target(backend).state(status(backend.flags), slot))
        })
    }

    /// The current generation's slots as garbage.
    fn discard(&self) -> Option<Garbage> {
        let count = u32::try_from(self.slots.len()).expect("slots are numbered by 16 bits");
        (count > 0).then_some(Garbage { id: self.id, generation: self.generation, count })
    }

    /// The list is no more: its slots are garbage and its targets gone.
    pub(super) fn drop_into(self, plan: &mut Plan, garbage: &mut Vec<Garbage>) {
        garbage.extend(self.discard());
        plan.ended.extend(self.slots.iter().map(|backend| Gone {
            service: self.id,
            addr: backend.addr,
            port: backend.port.get(),
            proto: self.key.protocol.number(),
            target: backend.target,
            target_epoch: backend.target_epoch,
        }));
    }
}

pub(super) fn target(backend: &Backend) -> Target {
    Target { index: backend.target, epoch: backend.target_epoch }
}

fn status(flags: u16) -> TargetStatus {
    if flags & (BACKEND_TERMINATING | BACKEND_NOT_READY) == 0 {
        TargetStatus::Active
    } else {
        TargetStatus::Terminating
    }
}
