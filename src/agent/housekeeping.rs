// SPDX-License-Identifier: Apache-2.0
//! What goes on beside the control loop: passing events on, and collecting flows that ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::{broadcast, watch};
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::abi::{self, TICK_NANOS};
use crate::datapath::aging::{Aging, Counts};
use crate::datapath::events::Events;
use crate::datapath::{Maps, host};
use crate::serve::Metrics;

/// Records that may wait for the agent before the newest are thrown away.
const BACKLOG: usize = 4096;

/// Hands every record of the ring to whoever listens. The ring is emptied also while nobody does,
/// so that a monitor shows what happens and not what once happened.
pub fn pass_events(maps: &Maps, listeners: broadcast::Sender<abi::Event>) -> Result<()> {
    let mut events = Events::open(maps, BACKLOG).context("cannot read the event ring")?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            // An error only says that nobody listens.
            let _ = listeners.send(event);
        }
    });
    Ok(())
}

/// Collects ended flows, a portion each tick of the datapath's clock, and tells how many live.
pub fn collect_flows(
    maps: Arc<Maps>,
    config: abi::Config,
    metrics: Arc<Metrics>,
) -> watch::Receiver<Counts> {
    let mut aging = Aging::new(&config);
    let (counts, receiver) = watch::channel(aging.counts());
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_nanos(TICK_NANOS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (start, before) = (Instant::now(), aging.counts().deleted);
            if let Err(error) = block_in_place(|| aging.tick(&maps.flows, host::ticks_now())) {
                warn!(%error, "cannot collect ended flows");
            }
            metrics.flows_aged(start.elapsed(), aging.counts().deleted - before);
            counts.send_replace(aging.counts());
        }
    });
    receiver
}
