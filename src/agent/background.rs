// SPDX-License-Identifier: Apache-2.0
//! What goes on beside the loop, and never holds it up: flow aging and the datapath's events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use super::chain;
use crate::abi::{self, TICK_NANOS};
use crate::datapath::aging::{Aging, HalfOpen};
use crate::datapath::events::Events;
use crate::datapath::{Maps, host, map};
use crate::serve::Metrics;

/// Records that may wait for the task that hands them on.
const BACKLOG: usize = 1024;

/// Ticks between two counts of `affinities`, which grows with clients and not with packets.
const AFFINITIES_EVERY: u32 = 64;

/// Ticks between two returns of free memory: under steady change the pieces between what is in use
/// grow by a tenth in a day, and giving them back takes milliseconds.
const TRIM_EVERY: u32 = 64;

/// Session affinity lasts no longer (`timeoutSeconds` of a Service).
const AFFINITY_MAX: Duration = Duration::from_secs(86_400);

/// Entries of the tables that programs fill, as last counted.
#[derive(Debug, Default)]
pub struct FlowCounts {
    pub flows: AtomicU64,
    pub half_open: AtomicU64,
    /// Those that may be in force still: the map keeps older ones until it needs their place.
    pub affinities: AtomicU64,
}

/// Ages flows on a thread of its own, as long as the process lives.
///
/// # Errors
/// No thread can be had.
pub fn age_flows(
    maps: Arc<Maps>,
    metrics: Arc<Metrics>,
    config: &abi::Config,
) -> std::io::Result<Arc<FlowCounts>> {
    let counts = Arc::new(FlowCounts::default());
    let (mut aging, mut half_open) = (Aging::new(config), HalfOpen::new(config));
    let counters = Arc::clone(&counts);
    thread::Builder::new().name("flows".to_owned()).spawn(move || {
        let mut failing = false;
        for tick in 0_u32.. {
            thread::sleep(Duration::from_nanos(TICK_NANOS));
            let (started, before) = (Instant::now(), aging.counts());
            let now = host::ticks_now();
            let mut outcome = aging.tick(&maps.flows, now);
            let after = aging.counts();
            let v6 = after.deleted_v6 - before.deleted_v6;
            let v4 = after.deleted - before.deleted - v6;
            metrics.flows_aged(started.elapsed(), [v4, v6]);
            counters.flows.store(after.entries, Ordering::Relaxed);
            outcome = outcome.and(half_open.tick(&maps.flows_new, now));
            counters.half_open.store(half_open.live(), Ordering::Relaxed);
            if tick % AFFINITIES_EVERY == 0 {
                let counted = affinities(&maps, now);
                let counted =
                    counted.map(|live| counters.affinities.store(live, Ordering::Relaxed));
                outcome = outcome.and(counted);
            }
            if tick % TRIM_EVERY == TRIM_EVERY - 1 {
                host::trim_heap();
            }
            // Once, not every tick: the next one tries again.
            if let Err(error) = &outcome
                && !failing
            {
                tracing::warn!(error = chain(error), "cannot age flows");
            }
            failing = outcome.is_err();
        }
    })?;
    Ok(counts)
}

/// `now`: [`host::ticks_now`].
fn affinities(maps: &Maps, now: u32) -> Result<u64, map::Error> {
    let longest = abi::ticks(AFFINITY_MAX);
    maps.affinities.count(|_, affinity| now.wrapping_sub(affinity.last_used) <= longest)
}

/// Hands every event on to whoever listens. The datapath's ring has this one reader.
///
/// # Errors
/// The ring cannot be read.
pub fn forward_events(
    maps: &Maps,
    listeners: broadcast::Sender<abi::Event>,
) -> std::io::Result<()> {
    let mut events = Events::open(maps, BACKLOG)?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            // Nobody listening is the usual state.
            let _ = listeners.send(event);
        }
    });
    Ok(())
}
