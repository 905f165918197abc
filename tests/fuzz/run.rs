// SPDX-License-Identifier: Apache-2.0
//! The run itself, and proof that it reaches what it is meant to reach.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::build::Builder;
use super::judge::{Fate, Judge};
use super::random::{packets, pick, seed};
use super::world::{Entry, World};

#[test]
fn nothing_comes_out_but_the_input_a_right_translation_or_an_answer() {
    let seed = seed();
    let world = World::new();
    let mut rng = Rng::with_seed(seed);
    let mut judge = Judge::new(world.frontends.clone());
    let mut builder = Builder::new();
    let mut fates: BTreeMap<Fate, u64> = BTreeMap::new();
    let total = packets() * Entry::ALL.len() as u64;

    world.node.ns.run(|| {
        for number in 0..total {
            let entry = pick(&mut rng, &Entry::ALL);
            let frame = builder.frame(&mut rng, entry);
            let ifindex = world.ifindex(entry);
            let (action, out) = world.node.raw_inside(entry.program(), ifindex, &frame);
            let fate = judge.judge(entry, &frame, action, &out).unwrap_or_else(|wrong| {
                panic!(
                    "{wrong}\nFUZZ_SEED={seed}, packet {number}, {entry:?}, action {action}\n\
                     in  {frame:02x?}\nout {out:02x?}"
                )
            });
            if matches!(fate, Fate::Translated) {
                builder.remember(&out);
            }
            *fates.entry(fate).or_default() += 1;
        }
    });

    // Each of them is met often, or the packets were not such as to prove anything.
    for fate in [
        Fate::Dropped,
        Fate::Untouched,
        Fate::Forwarded,
        Fate::Translated,
        Fate::ErrorTranslated,
        Fate::Answered,
    ] {
        let met = fates.get(&fate).copied().unwrap_or(0);
        assert!(met >= total / 2000, "{fate:?} only {met} times, FUZZ_SEED={seed}: {fates:?}");
    }
    eprintln!("{total} packets, FUZZ_SEED={seed}: {fates:?}");
}
