// SPDX-License-Identifier: Apache-2.0
//! Free ranges of map `maglev`, first fit. Neighbours grow together again.

use std::collections::BTreeMap;

/// Slots of one entry of the map.
const WORD: u32 = 4;

/// Counts in whole entries, speaks in slots.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Length by start.
    free: BTreeMap<u32, u32>,
}

impl Space {
    pub(super) fn new(words: u32) -> Self {
        let words = words.min(u32::MAX / WORD);
        Self { free: (words > 0).then_some((0, words)).into_iter().collect() }
    }

    /// A range of `size` slots. None: there is none that long.
    pub(super) fn give(&mut self, size: u32) -> Option<u32> {
        let words = size.div_ceil(WORD);
        let (start, length) =
            self.free.iter().find(|(_, length)| **length >= words).map(|(s, l)| (*s, *l))?;
        self.free.remove(&start);
        if length > words {
            self.free.insert(start + words, length - words);
        }
        Some(start * WORD)
    }

    /// Takes the range of `size` slots at `offset`. False: it is not free as a whole.
    pub(super) fn take(&mut self, offset: u32, size: u32) -> bool {
        let (start, words) = (offset / WORD, size.div_ceil(WORD));
        let Some((from, length)) = self.free.range(..=start).next_back().map(|(s, l)| (*s, *l))
        else {
            return false;
        };
        let Some(rest) =
            (u64::from(from) + u64::from(length)).checked_sub(u64::from(start) + u64::from(words))
        else {
            return false;
        };
        if !offset.is_multiple_of(WORD) {
            return false;
        }
        self.free.remove(&from);
        if start > from {
            self.free.insert(from, start - from);
        }
        if rest > 0 {
            self.free.insert(start + words, u32::try_from(rest).unwrap_or(u32::MAX));
        }
        true
    }

    pub(super) fn free_words(&self) -> u64 {
        self.free.values().map(|length| u64::from(*length)).sum()
    }

    pub(super) fn free(&mut self, offset: u32, size: u32) {
        let (mut start, mut words) = (offset / WORD, size.div_ceil(WORD));
        if let Some((from, length)) = self.free.range(..start).next_back().map(|(s, l)| (*s, *l))
            && from + length == start
        {
            self.free.remove(&from);
            start = from;
            words += length;
        }
        if let Some(length) = self.free.remove(&(start + words)) {
            words += length;
        }
        self.free.insert(start, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_apart_and_come_back_whole() {
        let mut space = Space::new(10);
        let ranges = [5, 12, 16].map(|size| (space.give(size).unwrap(), size));
        assert_eq!(ranges.map(|(offset, _)| offset), [0, 8, 20]);
        assert_eq!(space.give(5), None, "one word is left");
        assert_eq!(space.give(4), Some(36));
        space.free(36, 4);
        for at in [1, 0, 2] {
            space.free(ranges[at].0, ranges[at].1);
        }
        assert_eq!(space.give(40), Some(0));
    }

    #[test]
    fn what_is_in_use_cannot_be_taken() {
        let mut space = Space::new(10);
        assert!(space.take(8, 7));
        assert!(!space.take(8, 4) && !space.take(4, 8) && !space.take(0, 40), "in use");
        assert!(!space.take(36, 8), "beyond the end");
        assert!(!space.take(17, 1), "inside a word");
        assert_eq!((space.give(8), space.give(24), space.give(1)), (Some(0), Some(16), None));
        space.free(8, 7);
        assert_eq!(space.give(8), Some(8));
    }
}
