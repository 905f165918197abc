// SPDX-License-Identifier: Apache-2.0
//! Where the random numbers come from, and choices among few.

use fastrand::Rng;

/// The seed of this run, from `FUZZ_SEED` or the clock; printed when a run fails.
pub fn seed() -> u64 {
    std::env::var("FUZZ_SEED").map_or_else(
        |_| fastrand::u64(..),
        |text| text.parse().unwrap_or_else(|_| panic!("FUZZ_SEED `{text}` is no number")),
    )
}

/// How many packets a program gets.
pub fn packets() -> u64 {
    std::env::var("FUZZ_PACKETS").map_or(400_000, |text| {
        text.parse().unwrap_or_else(|_| panic!("FUZZ_PACKETS `{text}` is no number"))
    })
}

pub fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// True once in `n`.
pub fn once_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}
