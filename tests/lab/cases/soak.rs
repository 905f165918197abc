// SPDX-License-Identifier: Apache-2.0
//! Random days of a cluster against a model that knows what must answer.
//!
//! `SOAK_SECONDS` sets the length, and with it that of the longest outages: a tenth. `SOAK_SEED`
//! repeats a run's choices.

mod cluster;
mod expect;
mod random;
mod tables;
mod world;

use std::time::{Duration, Instant};

use random::Random;
use world::World;

/// Fits a run of all tests.
const SECONDS: u64 = 30;
/// The same day each time, unless told otherwise.
const SEED: u64 = 1;

#[test]
fn whatever_happens_what_must_answer_answers_and_the_maps_are_as_if_fresh() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("SOAK_SEED").unwrap_or(SEED);
    let length = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(SECONDS));
    println!("SOAK_SEED={seed} SOAK_SECONDS={}", length.as_secs());

    let mut world = World::raise(Random::new(seed), length);
    let mut steady = world.steady_talks();
    let started = Instant::now();
    let mut steps = 0;
    while started.elapsed() < length {
        steps += 1;
        let what = world.step();
        println!("{:6.1} s: step {steps}: {what}", started.elapsed().as_secs_f32());
        assert!(world.failures.is_empty(), "{}seed {seed}, step {steps}: {what}", world.said());
    }
    println!("{steps} steps, {} visits in {:?}", world.asked, started.elapsed());
    let flaws: Vec<_> = steady.drain(..).filter_map(|talk| talk.finish().flaw()).collect();
    assert!(flaws.is_empty(), "seed {seed}: nobody touched these:\n{}", flaws.join("\n"));
    let differences = world.differences_from_fresh();
    assert!(differences.is_empty(), "seed {seed}: a fresh agent writes other maps:\n{differences}");
}
