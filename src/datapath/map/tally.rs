// SPDX-License-Identifier: Apache-2.0
//! How many entries a map has, of which the kernel keeps no count.

use super::scan::PORTION;
use super::{Cursor, Error, Map, Plain};

/// Entries in one step at least, so that a small map takes few.
const STEP: usize = 1024;

/// Counts a part at a time, so that a large map holds nobody up.
#[derive(Debug)]
pub struct Tally<K> {
    cursor: Cursor<K>,
    /// Met since the pass began.
    met: u64,
    last: u64,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self { cursor: Cursor::new(), met: 0, last: 0 }
    }
}

impl<K: Plain> Tally<K> {
    /// As the last pass found them.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Reads the next part of `map`: of a full one a pass takes about `steps` calls.
    pub fn step<V: Plain>(
        &mut self,
        map: &Map<K, V>,
        steps: u32,
        wanted: impl Fn(&K, &V) -> bool,
    ) -> Result<(), Error> {
        let mut left = ((map.max_entries() / steps.max(1)) as usize).max(STEP);
        let mut read = Vec::new();
        while left > 0 && !self.cursor.is_at_end() {
            map.read_portion(&mut self.cursor, left.min(PORTION), &mut read)?;
            left = left.saturating_sub(read.len());
            self.met += read.drain(..).filter(|(key, value)| wanted(key, value)).count() as u64;
        }
        if self.cursor.is_at_end() {
            self.last = std::mem::take(&mut self.met);
            self.cursor = Cursor::new();
        }
        Ok(())
    }
}
