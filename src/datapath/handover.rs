// SPDX-License-Identifier: Apache-2.0
//! Maps that go over to another layout under traffic, see `bpf/lib/handover.h`.

use super::host::ticks_now;
use super::map::Error;
use super::maps::Maps;

/// In ticks. An agent that dies in the middle leaves nothing behind that would last.
const LONGEST: u32 = 60;

impl Maps {
    /// From now on programs say which flows they store.
    pub(super) fn begin_handover(&self) -> Result<(), Error> {
        self.forget_handover_keys()?;
        self.handover.set(&0, &ticks_now().wrapping_add(LONGEST))
    }

    /// All flows are where the new programs look.
    pub(super) fn end_handover(&self) -> Result<(), Error> {
        if self.handover.get(&0)?.unwrap_or_default() == 0 {
            return Ok(());
        }
        self.handover.set(&0, &0)?;
        self.forget_handover_keys()
    }

    fn forget_handover_keys(&self) -> Result<(), Error> {
        let keys = self.handover_keys.entries()?;
        let keys: Vec<_> = keys.into_iter().map(|(key, _)| key).collect();
        match self.handover_keys.remove_batch(&keys).into_iter().next() {
            Some(failed) => Err(failed.error),
            None => Ok(()),
        }
    }
}
