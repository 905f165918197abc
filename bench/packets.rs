// SPDX-License-Identifier: Apache-2.0
//! Nanoseconds per packet of each path through the programs, on this kernel, net of an empty program.
//!
//! Prints `name<TAB>value<TAB>unit` lines. Needs root. Everything is loaded anew five times, because
//! one load differs from the next more than one run from the next; the median is over loads.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

#[path = "packets/backend.rs"]
mod backend;
#[path = "packets/frame.rs"]
mod frame;
#[path = "packets/insn.rs"]
mod insn;
#[path = "packets/load.rs"]
mod load;
#[path = "packets/net.rs"]
mod net;
#[path = "packets/path.rs"]
mod path;
#[path = "../tests/support/pins.rs"]
#[expect(dead_code, reason = "shared with the kernel tests, which need more of it")]
mod pins;
#[path = "packets/prepared.rs"]
mod prepared;
#[path = "packets/raw.rs"]
mod raw;
#[path = "packets/world.rs"]
mod world;
#[path = "packets/yardstick.rs"]
mod yardstick;

use path::Path;
use prepared::Prepared;
use raw::{Vary, Wrapper};
use world::World;
use yardstick::Yardstick;

/// For a quick look while something is worked on, environment variable `LOADS` says less.
const LOADS: usize = 5;
const RUNS: usize = 5;
const REPEAT: i32 = 1_000_000;
/// A new flow costs ten times as much, and so many turn half-open flows' map over more than twice.
const REPEAT_NEW: i32 = 100_000;
/// 16,384 flows.
const MANY_BITS: u32 = 14;

/// One line of the result.
#[derive(Clone, Copy, Debug)]
struct Case {
    path: Path,
    v6: bool,
    bits: u32,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for path in Path::ALL {
            for v6 in [false, true] {
                cases.push(Self { path, v6, bits: 0 });
                if !path.opens() {
                    cases.push(Self { path, v6, bits: MANY_BITS });
                }
            }
        }
        cases
    }

    fn name(&self) -> String {
        let family = if self.v6 { "_v6" } else { "" };
        let flows = if self.bits > 0 { "_16k" } else { "" };
        format!("{}{family}{flows}", self.path.name())
    }
}

fn main() -> Result<()> {
    // `cargo bench NAME` measures what contains NAME; cargo adds options of its own.
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut cases = Case::all();
    cases.retain(|case| case.name().contains(&wanted));
    let yardstick =
        ["bare_lookup_ns_16k", "bare_insert_ns"].iter().any(|name| name.contains(&wanted));
    ensure!(yardstick || !cases.is_empty(), "there is no path named like `{wanted}`");

    net::enter_namespace()?;
    pin_to_last_cpu()?;

    let loads = match std::env::var("LOADS") {
        Ok(text) => text.parse().context("LOADS is a number")?,
        Err(_) => LOADS,
    };
    if yardstick {
        measure_yardstick(loads)?;
    }
    let started = Instant::now();
    let mut results = vec![Vec::new(); cases.len()];
    for load in 0..loads {
        // A world for each case: the flows of one must not fill the caches of the next.
        for (case, results) in cases.iter().zip(&mut results) {
            let world = World::load(case.path.dispatch())?;
            let prepared = path::prepare(&world, case.path, case.v6, case.bits)
                .with_context(|| format!("cannot measure `{}`", case.name()))?;
            results.push(
                measure(&prepared).with_context(|| format!("cannot time `{}`", case.name()))?,
            );
        }
        eprintln!("load {} of {loads} measured, {} s", load + 1, started.elapsed().as_secs());
    }
    for (case, results) in cases.iter().zip(results) {
        println!("{}\t{}\tns", case.name(), median(results));
    }
    Ok(())
}

/// Prints what one lookup costs alone, with and without misses, and one insertion.
fn measure_yardstick(loads: usize) -> Result<()> {
    const PORT: usize = 34;
    let packet = [0; 64];
    for (name, bits) in [("bare_lookup_ns", 0), ("bare_lookup_ns_16k", MANY_BITS)] {
        let vary: Vec<Vary> =
            (bits > 0).then_some(Vary { offset: PORT, bits }).into_iter().collect();
        let mut results = Vec::new();
        for _ in 0..loads {
            let yardstick = Yardstick::lookup(&packet, &vary)?;
            results.push(measure(&Prepared::alone(yardstick.program(), &packet, &vary))?);
        }
        println!("{name}\t{}\tns", median(results));
    }
    let mut results = Vec::new();
    for _ in 0..loads {
        let yardstick = Yardstick::insertion()?;
        results.push(measure(&Prepared::alone(yardstick.program(), &packet, &[]))?);
    }
    println!("bare_insert_ns\t{}\tns", median(results));
    Ok(())
}

/// Median nanoseconds per packet, less those of the same wrapper around an empty program. The two
/// take turns, so that a busy machine slows both.
fn measure(prepared: &Prepared) -> Result<i64> {
    let Prepared { hook, program, packet, ifindex, vary, .. } = prepared;
    let wrapped = Wrapper::new(*hook, Some(*program), packet, vary)?;
    let empty = Wrapper::new(*hook, None, packet, vary)?;
    // The wrapper must be invisible: what leaves the second round is what left the first.
    for repeat in 1..=3 {
        let (outcome, expected) = within_tick(prepared, || {
            let (outcome, _) = wrapped.time(packet, *ifindex, repeat)?;
            Ok((outcome, raw::run(*hook, *program, packet, *ifindex, 1)?.0))
        })?;
        ensure!(outcome.verdict == hook.sent(), "wrapped, the verdict is {}", outcome.verdict);
        ensure!(!vary.is_empty() || outcome == expected, "wrapped, the packet is another");
    }
    let repeat = if prepared.opens { REPEAT_NEW } else { REPEAT };
    let mut nanos = Vec::new();
    for run in 0..=RUNS {
        let (_, baseline) = empty.time(packet, *ifindex, repeat)?;
        let (outcome, raw) = within_tick(prepared, || wrapped.time(packet, *ifindex, repeat))?;
        ensure!(outcome.verdict == hook.sent(), "the verdict changed while it was timed");
        // The first one warms up.
        if run > 0 {
            nanos.push(i64::from(raw) - i64::from(baseline));
        }
    }
    Ok(median(nanos))
}

/// The driver hook leaves the first packet of a flow in each tick to tc, which is not there: its
/// flows are kept, and `work` is done, from the start of a tick on, and again should that have
/// outlasted the tick.
fn within_tick<T>(prepared: &Prepared, work: impl Fn() -> Result<T>) -> Result<T> {
    if !prepared.must_keep() {
        return work();
    }
    for _ in 0..20 {
        let last = tick()?;
        while tick()? == last {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        prepared.keep()?;
        let result = work();
        if tick()? == last + 1 {
            return result;
        }
    }
    anyhow::bail!("this machine is too slow: one measurement takes longer than a tick")
}

/// The datapath's coarse clock.
fn tick() -> Result<u64> {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).context("no coarse clock")?;
    Ok(u64::try_from(std::time::Duration::from(now).as_nanos())? >> 30)
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The first CPU is where interrupts tend to go.
fn pin_to_last_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    let last = std::thread::available_parallelism()?.get() - 1;
    cpus.set(last).context("more CPUs than the set holds")?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")
}
