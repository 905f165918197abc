// SPDX-License-Identifier: Apache-2.0
//! Where the random numbers come from, and choices among few.

use fastrand::Rng;

/// Where nobody says otherwise: a change is judged by the same packets as the one before it.
const SEED: u64 = 4_117_517_369_469_529_925;

/// The seed of this run, from `FUZZ_SEED`, where `random` stands for a new one each time. Printed
/// when a run fails.
pub fn seed() -> u64 {
    match std::env::var("FUZZ_SEED").as_deref() {
        Err(_) => SEED,
        Ok("random") => fastrand::u64(..),
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("FUZZ_SEED `{text}` is no number")),
    }
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
