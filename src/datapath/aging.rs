// SPDX-License-Identifier: Apache-2.0
//! Collects flows that no packet visits any more.
//!
//! The datapath takes an expired entry for a miss, so nothing is wrong until it is collected; it
//! only takes room. Each tick reads a portion of `flows` from where the last one ended, the larger
//! the fuller the map is. `flows_new` evicts by itself, so there the live ones are only counted.

use super::map::{Cursor, Error, Map, PORTION, Tally};
use crate::abi::{self, Flow, FlowKey, flow_flag};

mod pace;
mod rules;

pub use rules::{Timeouts, expired, partner_key};

/// Ticks in which all of a full `flows_new` is read.
const HALF_OPEN_IN: u32 = 8;

/// Counts the entries of `flows_new` that have not expired, which the kernel does not tell.
#[derive(Debug)]
pub struct HalfOpen {
    timeouts: Timeouts,
    tally: Tally<FlowKey>,
}

impl HalfOpen {
    pub fn new(config: &abi::Config) -> Self {
        Self { timeouts: Timeouts::from(config), tally: Tally::default() }
    }

    /// As the last pass found them.
    pub fn live(&self) -> u64 {
        self.tally.last()
    }

    /// Reads the next portion. Call it once a tick; `now` is [`super::host::ticks_now`].
    pub fn tick(&mut self, flows_new: &Map<FlowKey, Flow>, now: u32) -> Result<(), Error> {
        let Self { timeouts, tally } = self;
        let live = |key: &FlowKey, flow: &Flow| !expired(flow, key.proto, now, timeouts);
        tally.step(flows_new, HALF_OPEN_IN, live)
    }
}

/// Where the collection stands. Lives as long as the agent.
#[derive(Debug)]
pub struct Aging {
    timeouts: Timeouts,
    cursor: Cursor<FlowKey>,
    /// Live entries met since the pass began.
    met: u64,
    counts: Counts,
}

/// For `status` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries in `flows`, as the last pass found them. The kernel keeps no count.
    pub entries: u64,
    /// Entries deleted since the agent started.
    pub deleted: u64,
    /// Those of them that were IPv6.
    pub deleted_v6: u64,
    /// Times the whole map was read.
    pub passes: u64,
}

impl Aging {
    pub fn new(config: &abi::Config) -> Self {
        Self {
            timeouts: Timeouts::from(config),
            cursor: Cursor::new(),
            met: 0,
            counts: Counts::default(),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Reads the next portion and deletes what has expired in it, partners too. Call it once a
    /// tick; `now` is [`super::host::ticks_now`].
    pub fn tick(&mut self, flows: &Map<FlowKey, Flow>, now: u32) -> Result<(), Error> {
        // What has been met in this pass already may be more than the last one found.
        let entries = self.counts.entries.max(self.met);
        let portion = pace::portion(entries, u64::from(flows.max_entries()));
        let mut read = Vec::new();
        while (read.len() as u64) < portion && !self.cursor.is_at_end() {
            let missing = (portion - read.len() as u64) as usize;
            flows.read_portion(&mut self.cursor, missing.min(PORTION), &mut read)?;
        }

        let mut failed = None;
        for (key, flow) in &read {
            if let Err(error) = self.judge(flows, key, flow, now) {
                failed.get_or_insert(error);
            }
        }

        if self.cursor.is_at_end() {
            self.counts.entries = self.met;
            self.counts.passes += 1;
            self.met = 0;
            self.cursor = Cursor::new();
        }
        failed.map_or(Ok(()), Err)
    }

    /// Deletes the flow, which was read a moment ago, if it has expired. A connection may have opened
    /// its tuple anew since: it stays.
    fn judge(
        &mut self,
        flows: &Map<FlowKey, Flow>,
        key: &FlowKey,
        flow: &Flow,
        now: u32,
    ) -> Result<(), Error> {
        if leads_nowhere(flows, key, flow)? {
            let same = |each: &Flow| (each.target, each.created) == (flow.target, flow.created);
            return self.remove(flows, key, same).map(drop);
        }
        let timeouts = self.timeouts;
        let dead = |flow: &Flow| expired(flow, key.proto, now, &timeouts);
        if !dead(flow) {
            self.met += 1;
            return Ok(());
        }
        if let Some(flow) = self.remove(flows, key, dead)? {
            // The other direction goes with it, so that no half is left for a later portion. One
            // that is alive is another flow's by now.
            self.remove(flows, &partner_key(key, &flow), dead)?;
        }
        Ok(())
    }

    fn remove(
        &mut self,
        flows: &Map<FlowKey, Flow>,
        key: &FlowKey,
        gone: impl Fn(&Flow) -> bool,
    ) -> Result<Option<Flow>, Error> {
        let removed = flows.remove_if(key, gone)?;
        self.counts.deleted += u64::from(removed.is_some());
        self.counts.deleted_v6 += u64::from(removed.is_some() && !key.saddr.is_v4());
        Ok(removed)
    }
}

/// Whether what leads to a connection of another port has outlived it: that one's end is not told.
fn leads_nowhere(flows: &Map<FlowKey, Flow>, key: &FlowKey, flow: &Flow) -> Result<bool, Error> {
    Ok(flow.flags & flow_flag::DSR_ALIAS != 0 && flows.get(&partner_key(key, flow))?.is_none())
}
