// SPDX-License-Identifier: Apache-2.0
//! What an earlier agent left in the maps: taken over, and removed where nobody claims it.

use std::collections::{BTreeMap, BTreeSet};

use super::Balancer;
use crate::abi::{Addr, ServiceKind};
use crate::lb::adopt::Adopted;
use crate::lb::plan::{Actual, Gone, Plan};
use crate::lb::targets::Target;

impl Balancer {
    /// Starts from what an earlier agent left in the maps. `reserved` are the targets that others
    /// than services have there (SNAT addresses). To be called first.
    pub fn adopt(&mut self, actual: Actual, reserved: &[Target]) {
        self.vips.adopt(&actual.vips);
        self.host_ports.adopt(&actual);
        self.tables.adopt(&actual.services, &actual.tables);
        let states = actual.targets.clone();
        self.adopted = Adopted::new(actual);
        self.last_id = self.adopted.last_id();
        for target in reserved {
            self.adopted.unowned.remove(&target.index);
        }
        let unowned = &self.adopted.unowned;
        let reserved = |index| reserved.iter().any(|target| target.index == index);
        self.targets.adopt(&states, |index| unowned.contains(&index) || reserved(index));
    }

    /// Plans the removal of everything adopted that nobody has claimed. To be called when all
    /// services and slices are known and planned; `pods` says whether all pods are, too: until
    /// then their hostPorts stay. So do answers to health checks until the node is known, and with
    /// it where they come from.
    pub fn prune(&mut self, pods: bool) -> Plan {
        let checked =
            if self.context.addresses.is_empty() { self.health_keys() } else { BTreeSet::new() };
        let kept = self.adopted.take(|key, value| {
            !pods && value.kind == ServiceKind::HostPort as u8 || checked.contains(key)
        });
        let (frontends, garbage, ranges) = self.adopted.prune();
        self.orphans.frontends.extend(frontends.into_iter().map(|key| (key, None)));
        self.orphans.garbage.extend(garbage);
        self.orphans.ranges.extend(ranges.into_iter().map(|key| (key, true)));

        let records = self.records.values().map(Box::as_ref).chain([&self.orphans]);
        let owned = records.flat_map(|record| {
            let slots = record.lists.iter().flat_map(|list| &list.slots).map(|b| b.target);
            slots.chain(record.owed.iter().map(|gone| gone.target))
        });
        for index in owned {
            self.adopted.unowned.remove(&index);
        }
        let states = std::mem::take(&mut self.adopted.states);
        for target in std::mem::take(&mut self.adopted.unowned) {
            if let Some(state) = states.get(&target) {
                let target_epoch = state.epoch;
                let nobodys =
                    Gone { service: 0, addr: Addr::ZERO, port: 0, proto: 0, target, target_epoch };
                self.orphans.owed.push(nobodys);
            }
        }
        let mut plan = Plan { released: self.tables.prune(), ..Plan::default() };
        let claims = &self.claims;
        self.orphans.finish(BTreeMap::new(), |key| claims.is_anothers(key, None), &mut plan);
        self.orphans.finish_ranges(BTreeSet::new(), &mut plan);
        let addresses = kept.vips();
        self.vips.prune(&mut plan, &addresses);
        self.host_ports.prune(&mut plan, !pods);
        self.adopted = kept;
        plan
    }
}
