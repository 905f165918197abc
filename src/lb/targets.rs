// SPDX-License-Identifier: Apache-2.0
//! Who has which index of `target_state`, and at which epoch.
//!
//! An index that was freed goes to the end of a queue and is given again only when the queue is
//! long or all indices that were never used are gone; then its epoch moves, so that no old flow
//! comes back to life.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use crate::abi::{TargetState, TargetStatus};

/// Freed indices that wait while there are fresh ones: enough that the 65,536 epochs of one index
/// last for a thousand million changes, and the queue stays small whatever the size of the map.
const QUEUE: usize = 16_384;

/// An index of `target_state` and the epoch it was given at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub index: u32,
    pub epoch: u16,
}

impl Target {
    pub(super) fn state(self, status: TargetStatus, slot: u16) -> TargetState {
        TargetState { epoch: self.epoch, status: status as u8, slot, ..Default::default() }
    }
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("all {capacity} indices of `target_state` are in use; serve fewer endpoints")]
pub struct TargetsFull {
    pub capacity: u32,
}

#[derive(Debug)]
pub(super) struct Targets {
    capacity: u32,
    /// Indices from here on were never used.
    fresh: u32,
    freed: VecDeque<Target>,
}

impl Targets {
    pub(super) fn new(capacity: u32) -> Self {
        Self { capacity, fresh: 0, freed: VecDeque::new() }
    }

    pub(super) fn in_use(&self) -> u64 {
        u64::from(self.fresh) - self.freed.len() as u64
    }

    /// # Errors
    /// All indices are in use.
    pub(super) fn give(&mut self) -> Result<Target, TargetsFull> {
        if self.fresh < self.capacity && self.freed.len() < QUEUE {
            self.fresh += 1;
            return Ok(Target { index: self.fresh - 1, epoch: 1 });
        }
        let old = self.freed.pop_front().ok_or(TargetsFull { capacity: self.capacity })?;
        Ok(Target { index: old.index, epoch: old.epoch.wrapping_add(1) })
    }

    pub(super) fn free(&mut self, target: Target) {
        self.freed.push_back(target);
    }

    /// Takes over a table in which `used` says who is still somebody's; the others are free.
    pub(super) fn adopt(
        &mut self,
        states: &BTreeMap<u32, TargetState>,
        used: impl Fn(u32) -> bool,
    ) {
        self.fresh = states.last_key_value().map_or(0, |(last, _)| last + 1);
        self.freed = (0..self.fresh)
            .filter(|index| !used(*index))
            .map(|index| Target { index, epoch: states.get(&index).map_or(0, |s| s.epoch) })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_reused_last_and_with_a_new_epoch() {
        let mut targets = Targets::new(2);
        let first = targets.give().unwrap();
        targets.free(first);
        assert_eq!(targets.give(), Ok(Target { index: 1, epoch: 1 }));
        assert_eq!(targets.give(), Ok(Target { index: 0, epoch: 2 }));
        assert_eq!(targets.give(), Err(TargetsFull { capacity: 2 }));
    }

    #[test]
    fn the_queue_does_not_grow_with_the_changes() {
        let mut targets = Targets::new(u32::MAX);
        for _ in 0..4 * QUEUE {
            let target = targets.give().unwrap();
            targets.free(target);
        }
        assert_eq!((targets.freed.len(), targets.fresh as usize), (QUEUE, QUEUE));
        assert_eq!(targets.give().unwrap().epoch, 5, "each has been given four times");
    }

    #[test]
    fn adopted_indices_keep_their_epochs() {
        let states = BTreeMap::from([
            (0, TargetState { epoch: 7, ..Default::default() }),
            (2, TargetState { epoch: 3, ..Default::default() }),
        ]);
        let mut targets = Targets::new(3);
        targets.adopt(&states, |index| index == 2);
        assert_eq!(targets.give(), Ok(Target { index: 0, epoch: 8 }));
        assert_eq!(targets.give(), Ok(Target { index: 1, epoch: 1 }));
        assert_eq!(targets.give(), Err(TargetsFull { capacity: 3 }));
    }
}
