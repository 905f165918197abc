// SPDX-License-Identifier: Apache-2.0
//! Flows that are older than the table of who may have one.

use std::os::fd::OwnedFd;

use super::map::{self, Map};

/// Marks every place of `pod_pairs`, at a new map `fd`: the flows of a version that did not mark
/// theirs are found then, for the lookups that marks are there to spare.
pub(super) fn mark_all(fd: OwnedFd) -> Result<(), map::Error> {
    let pairs = Map::<u32, [u8; 8]>::from_fd("pod_pairs", fd)?;
    let marked: Vec<_> = (0..pairs.max_entries()).map(|place| (place, [1; 8])).collect();
    match pairs.set_batch(&marked).into_iter().next() {
        Some(failed) => Err(failed.error),
        None => Ok(()),
    }
}
