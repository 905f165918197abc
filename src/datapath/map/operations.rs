// SPDX-License-Identifier: Apache-2.0
//! How often a map was written, and how often the kernel refused.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was done to entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Update,
    Delete,
}

impl Operation {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Entries of one map that this process wrote or removed, one by one or in batches.
#[derive(Debug, Default)]
pub struct Operations {
    updated: AtomicU64,
    refused_updates: AtomicU64,
    deleted: AtomicU64,
    refused_deletes: AtomicU64,
}

impl Operations {
    /// Each operation, whether it succeeded, and for how many entries.
    pub fn all(&self) -> [(Operation, bool, u64); 4] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            (Operation::Update, true, read(&self.updated)),
            (Operation::Update, false, read(&self.refused_updates)),
            (Operation::Delete, true, read(&self.deleted)),
            (Operation::Delete, false, read(&self.refused_deletes)),
        ]
    }

    pub(crate) fn count(&self, operation: Operation, entries: usize, refused: usize) {
        let (done, failed) = match operation {
            Operation::Update => (&self.updated, &self.refused_updates),
            Operation::Delete => (&self.deleted, &self.refused_deletes),
        };
        done.fetch_add((entries - refused) as u64, Ordering::Relaxed);
        failed.fetch_add(refused as u64, Ordering::Relaxed);
    }

    /// One entry's.
    pub(super) fn note<T, E>(&self, operation: Operation, result: Result<T, E>) -> Result<T, E> {
        self.count(operation, 1, usize::from(result.is_err()));
        result
    }
}
