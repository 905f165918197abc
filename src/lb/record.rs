// SPDX-License-Identifier: Apache-2.0
//! What was written for one service, and the plan to what it wants now.

use std::collections::{BTreeMap, BTreeSet};

use super::host_ports::is_one;
use super::list::{Garbage, List};
use super::plan::{Gone, Plan, Totals, Write};
use super::rare::Rare;
use super::targets::Target;
use crate::abi::{
    Addr, BACKEND_NOT_READY, BACKEND_TERMINATING, SERVICE_DSR, Service, ServiceKey, SourceRangeKey,
    TargetStatus,
};

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) lists: Vec<List>,
    /// Sorted. None: a write failed, so what the map holds is not known.
    pub(super) frontends: Vec<(ServiceKey, Option<Service>)>,
    /// Addresses of frontends that are or may be in the maps.
    pub(super) vips: Vec<Addr>,
    /// Sorted. False: a write failed, so whether the map holds it is not known.
    pub(super) ranges: Rare<Vec<(SourceRangeKey, bool)>>,
    /// Slots to remove once nothing points to them.
    pub(super) garbage: Rare<Vec<Garbage>>,
    /// Targets whose end is still to be written.
    pub(super) owed: Rare<Vec<Gone>>,
    /// Tables that its frontends use.
    pub(super) tables: Rare<BTreeSet<u32>>,
    /// Tables still to be released.
    pub(super) owed_tables: Rare<Vec<u32>>,
    pub(super) totals: Totals,
    /// Wildcard frontends of hostPorts, as counted last.
    pub(super) host_ports: u32,
}

impl Record {
    /// Plans the frontends' way to `wanted` and closes the plan. `is_anothers` says whether a
    /// frontend has gone to another service, which writes it.
    pub(super) fn finish(
        &mut self,
        wanted: BTreeMap<ServiceKey, Service>,
        is_anothers: impl Fn(&ServiceKey) -> bool,
        plan: &mut Plan,
    ) {
        let written: BTreeMap<ServiceKey, Option<Service>> =
            std::mem::take(&mut self.frontends).into_iter().collect();
        plan.remove = written
            .keys()
            .filter(|key| !wanted.contains_key(key) && !is_anothers(key))
            .map(|key| Write::RemoveService { key: *key })
            .collect();
        plan.flip = wanted
            .iter()
            .filter(|(key, value)| written.get(key) != Some(&Some(**value)))
            .map(|(key, value)| Write::Service { key: *key, value: *value })
            .collect();
        self.frontends = wanted.into_iter().map(|(key, value)| (key, Some(value))).collect();

        plan.released.extend(self.owed_tables.take());
        plan.ended.extend(self.owed.take());
        plan.gone.extend(plan.ended.iter().map(|gone| end(gone.target())));
        plan.garbage = self.garbage.take();
        plan.later = plan.garbage.iter().flat_map(|garbage| garbage.removals()).collect();
    }

    /// Plans the source ranges' way to `wanted`: those that go stay until no flag leads to them.
    pub(super) fn finish_ranges(&mut self, wanted: BTreeSet<SourceRangeKey>, plan: &mut Plan) {
        let written: BTreeMap<SourceRangeKey, bool> = self.ranges.take().into_iter().collect();
        let added = wanted.iter().filter(|key| written.get(key) != Some(&true));
        plan.prepare.extend(added.map(|key| Write::SourceRange { key: *key }));
        let left = written.keys().filter(|key| !wanted.contains(key));
        plan.gone.extend(left.map(|key| Write::RemoveSourceRange { key: *key }));
        self.ranges = wanted.into_iter().map(|key| (key, true)).collect();
    }

    /// Wildcard frontends of hostPorts that are wanted now.
    pub(super) fn count_host_ports(&self) -> u32 {
        let written = self.frontends.iter();
        let ours = written.filter(|(key, value)| value.is_some_and(|value| is_one(key, &value)));
        u32::try_from(ours.count()).unwrap_or(u32::MAX)
    }

    /// What of `plan` arrived is not known: the next plan writes all of it again.
    pub(super) fn doubt(&mut self, plan: Plan) {
        for list in &mut self.lists {
            list.uncertain = true;
        }
        let mut frontends: BTreeMap<ServiceKey, Option<Service>> =
            std::mem::take(&mut self.frontends).into_iter().collect();
        for write in plan.remove.iter().chain(&plan.flip) {
            if let Write::RemoveService { key } | Write::Service { key, .. } = write {
                frontends.insert(*key, None);
            }
        }
        self.frontends = frontends.into_iter().collect();
        let mut ranges: BTreeMap<SourceRangeKey, bool> = self.ranges.take().into_iter().collect();
        for write in plan.prepare.iter().chain(&plan.gone) {
            if let Write::SourceRange { key } | Write::RemoveSourceRange { key } = write {
                ranges.insert(*key, false);
            }
        }
        self.ranges = ranges.into_iter().collect();
        self.vips.extend(plan.touched);
        self.vips.sort_unstable();
        self.vips.dedup();
        self.garbage.extend(plan.garbage);
        self.owed.extend(plan.ended);
        self.owed_tables.extend(plan.released);
    }

    /// Gives back what its vectors have to spare: there are as many as services.
    pub(super) fn shrink(&mut self) {
        self.lists.shrink_to_fit();
        self.frontends.shrink_to_fit();
        self.vips.shrink_to_fit();
        self.ranges.shrink();
        self.garbage.shrink();
        self.owed.shrink();
        self.tables.shrink();
        self.owed_tables.shrink();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
            && self.frontends.is_empty()
            && self.vips.is_empty()
            && self.ranges.is_empty()
            && self.garbage.is_empty()
            && self.owed.is_empty()
            && self.tables.is_empty()
            && self.owed_tables.is_empty()
    }

    /// Counts what is written; the two `no_local` counts are the caller's.
    pub(super) fn count(&self) -> Totals {
        let mut totals =
            Totals { services: u32::from(!self.lists.is_empty()), ..Totals::default() };
        for (_, service) in &self.frontends {
            let kind = service.map_or(0, |service| service.kind).saturating_sub(1);
            totals.frontends[usize::from(kind).min(4)] += 1;
            totals.dsr +=
                u32::from(service.is_some_and(|service| service.flags & SERVICE_DSR != 0));
        }
        totals.source_ranges = u32::try_from(self.ranges.len()).unwrap_or(u32::MAX);
        for backend in self.lists.iter().flat_map(|list| &list.slots) {
            totals.backends += 1;
            totals.backends_terminating += u32::from(backend.flags & BACKEND_TERMINATING != 0);
            totals.backends_not_ready += u32::from(backend.flags & BACKEND_NOT_READY != 0);
        }
        totals
    }
}

impl Gone {
    pub(super) fn target(&self) -> Target {
        Target { index: self.target, epoch: self.target_epoch }
    }
}

/// Ends `target`.
pub(super) fn end(target: Target) -> Write {
    Write::Target { index: target.index, state: target.state(TargetStatus::Gone, 0) }
}
