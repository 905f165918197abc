// SPDX-License-Identifier: Apache-2.0
//! The run itself, and proof that it reaches what it is meant to reach.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::build::{Builder, least};
use super::driver::untag;
use super::entry::Entry;
use super::judge::{Fate, Judge};
use super::random::{once_in, packets, pick, seed};
use super::world::{Dispatch, Wire, World};

struct Run<'a> {
    world: &'a World,
    seed: u64,
    rng: Rng,
    judge: Judge,
    builder: Builder,
    fates: BTreeMap<Fate, u64>,
    number: u64,
    /// What came out of the tunnel and was accepted.
    emerged: u64,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, seed: u64) -> Self {
        Self {
            seed,
            rng: Rng::with_seed(seed),
            judge: Judge::new(world.dispatch, world.frontends.clone()),
            builder: Builder::new(world),
            fates: BTreeMap::new(),
            number: 0,
            emerged: 0,
            world,
        }
    }

    fn packet(&mut self) {
        let entry = pick(&mut self.rng, Entry::of(self.world.dispatch));
        if entry == Entry::FromOverlay {
            self.overlay();
        } else {
            let frame = self.builder.frame(&mut self.rng, entry);
            if entry == Entry::Driver {
                let wire = if once_in(&mut self.rng, 2) { Wire::Uplink } else { Wire::Second };
                self.driver(wire, &frame);
            } else {
                self.tc(entry, self.world.ifindex(entry), &frame);
            }
        }
        self.number += 1;
    }

    fn overlay(&mut self) {
        let (frame, option) = self.builder.tunnelled(&mut self.rng);
        let (action, out) = self.world.emerges(&frame, &option);
        let fate = self.judge.judge(Entry::FromOverlay, &frame, &option, action, &out);
        let fate = fate.map_err(|wrong| format!("{wrong}, with the option {}", hex(&option)));
        if self.note(Entry::FromOverlay, fate, &frame, action, &out) == Fate::Accepted {
            self.emerged += 1;
            self.builder.remember(&out);
        }
    }

    /// What goes up from the driver hook meets the program on the device behind it.
    fn driver(&mut self, wire: Wire, frame: &[u8]) {
        let (action, out) = self.world.node.xdp_inside(self.world.wire(wire), frame);
        let fate = self.judge.judge_driver(wire, frame, action, &out);
        let fate = self.note(Entry::Driver, fate, frame, action, &out);
        if fate != Fate::Up {
            self.builder.remember(&untag(&out).1);
            return;
        }
        let (tags, plain) = untag(frame);
        match wire.device(tags) {
            Some(Wire::Elsewhere) | None => {}
            Some(_) if plain.len() < least(&plain) => {}
            Some(device) => self.tc(Entry::FromNetdev, self.world.wire(device), &plain),
        }
    }

    fn tc(&mut self, entry: Entry, ifindex: u32, frame: &[u8]) {
        let (action, out) = self.world.node.raw_inside(entry.program(), ifindex, frame);
        let fate = self.judge.judge(entry, frame, &[], action, &out);
        match self.note(entry, fate, frame, action, &out) {
            Fate::Translated | Fate::Accepted | Fate::Dispatched => self.builder.remember(&out),
            _ => {}
        }
    }

    fn note(
        &mut self,
        entry: Entry,
        fate: Result<Fate, String>,
        frame: &[u8],
        action: u32,
        out: &[u8],
    ) -> Fate {
        let fate = fate.unwrap_or_else(|wrong| {
            panic!(
                "in  {}\nout {}\n{wrong}\nFUZZ_SEED={}, packet {}, {entry:?}, action {action}",
                hex(frame),
                hex(out),
                self.seed,
                self.number,
            )
        });
        *self.fates.entry(fate).or_default() += 1;
        fate
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fates that every world must know.
const FATES: [Fate; 9] = [
    Fate::Dropped,
    Fate::Untouched,
    Fate::Forwarded,
    Fate::Translated,
    Fate::ErrorTranslated,
    Fate::Answered,
    Fate::Up,
    Fate::Sent,
    Fate::Redirected,
];

/// Runs `share` hundredths of all packets.
fn run(dispatch: Dispatch, share: u64) {
    let world = World::new(dispatch);
    let mut run = Run::new(&world, seed());
    let total = packets() * Entry::of(dispatch).len() as u64 * share / 100;
    world.node.ns.run(|| (0..total).for_each(|_| run.packet()));

    // Each of them is met often, or the packets were not such as to prove anything.
    let direct: &[Fate] = match dispatch {
        Dispatch::Off => &[],
        _ => &[Fate::Dispatched, Fate::Accepted],
    };
    for fate in FATES.iter().chain(direct) {
        let met = run.fates.get(fate).copied().unwrap_or(0);
        assert!(met >= total / 5000, "{fate:?} only {met} times of {total}: {:?}", run.fates);
    }
    let emerged = dispatch != Dispatch::Geneve || run.emerged >= total / 100;
    assert!(emerged, "only {} of {total} came out of the tunnel", run.emerged);
    eprintln!("{dispatch:?}: {total} packets, FUZZ_SEED={}: {:?}", run.seed, run.fates);
}

#[test]
fn nothing_comes_out_but_the_input_a_right_translation_or_an_answer() {
    run(Dispatch::Off, 30);
}

#[test]
fn options_are_right_and_only_right_ones_are_taken() {
    run(Dispatch::Option, 20);
}

#[test]
fn plain_options_and_anyones_encapsulation_are_read_where_the_switch_says_so() {
    run(Dispatch::Plain, 15);
}

#[test]
fn encapsulated_packets_are_right_and_only_nodes_may_send_them() {
    run(Dispatch::Ipip, 20);
}

#[test]
fn what_goes_through_a_tunnel_has_room_there_and_nothing_without_a_mark_comes_out() {
    run(Dispatch::Geneve, 15);
}
