// SPDX-License-Identifier: Apache-2.0
//! Nanoseconds per packet of each path through the programs, on this kernel, net of an empty program.
//!
//! Prints `name<TAB>value<TAB>unit` lines. Needs root. Everything is loaded anew five times, because
//! one load differs from the next more than one run from the next; the median is over loads.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

#[path = "packets/frame.rs"]
mod frame;
#[path = "packets/insn.rs"]
mod insn;
#[path = "packets/path.rs"]
mod path;
#[path = "packets/raw.rs"]
mod raw;
#[path = "packets/world.rs"]
mod world;

use path::{Path, Prepared};
use raw::Wrapper;
use world::World;

const LOADS: usize = 5;
const RUNS: usize = 5;
const REPEAT: i32 = 1_000_000;
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
    ensure!(!cases.is_empty(), "there is no path named like `{wanted}`");

    world::check_bpffs()?;
    world::enter_namespace()?;
    pin_to_last_cpu()?;

    let started = Instant::now();
    let mut results = vec![Vec::new(); cases.len()];
    for load in 0..LOADS {
        // A world for each case: the flows of one must not fill the caches of the next.
        for (case, results) in cases.iter().zip(&mut results) {
            let world = World::load()?;
            let prepared = path::prepare(&world, case.path, case.v6, case.bits)
                .with_context(|| format!("cannot measure `{}`", case.name()))?;
            results.push(
                measure(&prepared).with_context(|| format!("cannot time `{}`", case.name()))?,
            );
        }
        eprintln!("load {} of {LOADS} measured, {} s", load + 1, started.elapsed().as_secs());
    }
    for (case, results) in cases.iter().zip(results) {
        println!("{}\t{}\tns", case.name(), median(results));
    }
    Ok(())
}

/// Median nanoseconds per packet, less those of the same wrapper around an empty program.
fn measure(prepared: &Prepared) -> Result<i64> {
    let Prepared { program, packet, ifindex, vary } = prepared;
    let (expected, _) = raw::run(*program, packet, *ifindex, 1)?;
    let wrapped = Wrapper::new(Some(*program), packet, vary)?;
    let empty = Wrapper::new(None, packet, vary)?;
    // The wrapper must be invisible: what leaves the second round is what left the first.
    for repeat in 1..=3 {
        let (outcome, _) = wrapped.time(packet, *ifindex, repeat)?;
        ensure!(outcome.verdict == expected.verdict, "wrapped, the verdict is another");
        ensure!(!vary.is_empty() || outcome == expected, "wrapped, the packet is another");
    }
    let time = |wrapper: &Wrapper| -> Result<i64> {
        wrapper.time(packet, *ifindex, REPEAT / 10)?;
        let mut nanos = Vec::new();
        for _ in 0..RUNS {
            let (outcome, each) = wrapper.time(packet, *ifindex, REPEAT)?;
            nanos.push((outcome, i64::from(each)));
        }
        Ok(median(nanos.into_iter().map(|(_, nanos)| nanos).collect()))
    };
    let baseline = time(&empty)?;
    let raw = time(&wrapped)?;
    let (after, _) = wrapped.time(packet, *ifindex, 1)?;
    ensure!(after.verdict == expected.verdict, "the verdict changed while it was timed");
    Ok(raw - baseline)
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
