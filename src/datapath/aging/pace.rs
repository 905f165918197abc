// SPDX-License-Identifier: Apache-2.0
//! How much of the map one tick reads.

/// A tick reads at least this much, so that a small map is done with at once.
const LEAST: u64 = 4096;

/// Entries to read in this tick: a whole pass takes a minute while the map is mostly empty, and a
/// few seconds once it is nearly full. Even then no tick reads everything.
pub(super) fn portion(entries: u64, size: u64) -> u64 {
    let percent = entries.saturating_mul(100) / size.max(1);
    let ticks = match percent {
        0..50 => 60,
        50..75 => 20,
        75..90 => 8,
        _ => 4,
    };
    (entries / ticks).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 524_288;

    #[test]
    fn the_fuller_the_map_the_shorter_a_pass() {
        let ticks = |entries| entries / portion(entries, SIZE);
        assert_eq!(ticks(SIZE * 95 / 100), 4);
        assert!(ticks(SIZE * 8 / 10) > ticks(SIZE * 95 / 100));
        assert!(ticks(SIZE * 6 / 10) > ticks(SIZE * 8 / 10));
    }

    #[test]
    fn a_full_map_is_not_read_in_one_tick_and_an_empty_one_is() {
        assert!(portion(SIZE, SIZE) <= SIZE / 4);
        assert_eq!(portion(0, SIZE), LEAST);
        assert_eq!(portion(0, 0), LEAST);
    }
}
