// SPDX-License-Identifier: Apache-2.0
//! What one batch writes: first whose the frontends are, then one plan a service.

use std::collections::{BTreeMap, BTreeSet};

use super::Balancer;
use super::wishes::Wish;
use crate::abi::{Addr, SERVICE_SOURCE_RANGES, ServiceKey, ServiceKind};
use crate::lb::annotations::{Annotations, weight};
use crate::lb::endpoints::{Candidate, Ranges};
use crate::lb::list::{List, ListKey};
use crate::lb::owner::Owner;
use crate::lb::plan::{Plan, Totals};
use crate::lb::record::Record;
use crate::lb::value::{source_ranges, value, vip};
use crate::model::{self, TrafficPolicy};

impl Balancer {
    /// Takes services from the dirty ones and decides whose their frontends are. Whoever gets one
    /// that another gave up is part of the batch.
    pub(super) fn settle_claims(&mut self, limit: usize) -> BTreeSet<Owner> {
        self.claim_all();
        let mut batch = BTreeSet::new();
        while batch.len() < limit
            && let Some(name) = self.objects.dirty.pop_first()
        {
            batch.insert(name);
        }
        let mut wanted: BTreeMap<Owner, BTreeMap<ServiceKey, ServiceKind>> = BTreeMap::new();
        let mut work: Vec<Owner> = batch.iter().cloned().collect();
        while let Some(name) = work.pop() {
            let wants = self.wanted_keys(&name);
            let has = self.records.get(&name).map_or(&[][..], |record| &record.frontends);
            let has = has.iter().map(|(key, _)| *key).chain(self.claims.waits(&name));
            let keeps = |key: &ServiceKey| {
                wants.get(key).is_some_and(|kind| !self.claims.is_weaker(key, *kind, &name))
            };
            let given_up: Vec<ServiceKey> = has.filter(|key| !keeps(key)).collect();
            for key in given_up {
                for heir in self.claims.release(&key, &name) {
                    self.objects.dirty.remove(&heir);
                    if batch.insert(heir.clone()) {
                        work.push(heir);
                    }
                }
            }
            wanted.insert(name, wants);
        }
        for (name, keys) in wanted {
            for (key, kind) in keys {
                if let Some(loser) = self.claims.claim(key, kind, &name) {
                    self.objects.dirty.remove(&loser);
                    batch.insert(loser);
                }
            }
        }
        batch
    }

    /// Once, before the first write: what an earlier agent wrote for one service must not be
    /// another's until its own batch comes.
    fn claim_all(&mut self) {
        if std::mem::replace(&mut self.claimed, true) {
            return;
        }
        for name in self.objects.dirty.clone() {
            for (key, kind) in self.wanted_keys(&name) {
                // Whoever loses is dirty as well.
                let _ = self.claims.claim(key, kind, &name);
            }
        }
    }

    pub(super) fn plan_service(&mut self, name: Owner) -> Plan {
        let mut plan = Plan {
            owner: Some(name.clone()),
            triggered: match &name {
                Owner::Service(name) => self.objects.take_triggered(name),
                Owner::HealthCheck(_) | Owner::HostPort(_) => Vec::new(),
            },
            ..Plan::default()
        };
        let mut record = self.records.remove(&name).unwrap_or_default();
        self.totals.subtract(&record.totals);
        self.short.remove(&name);
        self.faults.remove(&name);
        self.tableless.remove(&name);

        let mut stale = std::mem::take(&mut record.lists);
        let mut entries = BTreeMap::new();
        let mut client_ranges = BTreeSet::new();
        let mut vips: BTreeMap<Addr, u32> = BTreeMap::new();
        let mut no_local = Totals::default();
        let mut algorithm = None;
        let objects = std::mem::take(&mut self.objects);
        if let Some((service, wishes)) = self.wishes(&name, &objects) {
            let (annotations, mut faults) = Annotations::of(&service);
            faults.extend(self.context.serve.faults(&service));
            faults.extend(objects.slices(&service.name).filter_map(|slice| weight(slice).err()));
            faults.extend(self.context.serve.forwarding.fault(&annotations));
            algorithm = annotations.algorithm;
            if !faults.is_empty() {
                self.faults.insert(name.clone(), faults);
            }
            for Wish { list: key, frontends, endpoints } in wishes {
                let mut list = match stale.iter().position(|list| list.key == key) {
                    Some(place) => stale.swap_remove(place),
                    None => self.start_list(key, &frontends, &mut record),
                };
                let ranges = self.update(&name, &mut list, &endpoints, &mut plan, &mut record);
                let serve = &self.context.serve;
                for (frontend, kind) in frontends {
                    let of = (&frontend, kind);
                    let value = value(&service, &annotations, &list, ranges, of, serve);
                    if value.flags & SERVICE_SOURCE_RANGES != 0 {
                        client_ranges.extend(source_ranges(&service, &list));
                    }
                    if let Some(flags) = vip(&service, &frontend, kind, serve) {
                        *vips.entry(frontend.vip).or_default() |= flags;
                    }
                    entries.insert(frontend, value);
                }
                count_no_local(&service, key.v6, ranges, &mut no_local);
                record.lists.push(list);
            }
        }
        let held = &mut record.tables;
        if !self.tables.assign(algorithm, &record.lists, &mut entries, held, &mut plan) {
            self.tableless.insert(name.clone());
        }
        self.objects = objects;
        for list in stale {
            list.drop_into(&mut plan, &mut record.garbage);
        }
        let claims = &self.claims;
        let is_anothers = |key: &ServiceKey| claims.is_anothers(key, Some(&name));
        record.finish(entries, is_anothers, &mut plan);
        record.finish_ranges(client_ranges, &mut plan);
        let host_ports = record.count_host_ports();
        self.host_ports.change(std::mem::replace(&mut record.host_ports, host_ports), host_ports);
        self.vips.change(&name, &record.vips, &vips);
        plan.touched = record.vips.iter().chain(vips.keys()).copied().collect();
        record.vips = vips.into_keys().collect();
        record.totals = record.count();
        if !name.is_service() {
            record.totals.services = 0;
        }
        record.totals.add(&no_local);
        self.totals.add(&record.totals);
        if !record.is_empty() {
            record.shrink();
            self.records.insert(name, record);
        }
        plan
    }

    /// A list for frontends `ours`: the one an earlier agent had for them, or a new one.
    fn start_list(
        &mut self,
        key: ListKey,
        ours: &BTreeMap<ServiceKey, ServiceKind>,
        record: &mut Record,
    ) -> List {
        if let Some(found) = self.adopted.find(key, ours.keys()) {
            record.frontends.extend(found.frontends.into_iter().map(|(k, v)| (k, Some(v))));
            record.garbage.extend(found.garbage);
            record.ranges.extend(found.ranges.into_iter().map(|key| (key, true)));
            return found.list;
        }
        self.last_id += 1;
        List::new(key, self.last_id)
    }

    fn update(
        &mut self,
        name: &Owner,
        list: &mut List,
        wanted: &[Candidate],
        plan: &mut Plan,
        record: &mut Record,
    ) -> Ranges {
        let known = &mut self.adopted.states;
        let (classes, out) =
            list.update(wanted, &mut self.targets, known, plan, &mut record.garbage);
        if out > 0 {
            *self.short.entry(name.clone()).or_default() += out;
        }
        classes
    }
}

fn count_no_local(service: &model::Service, v6: bool, ranges: Ranges, totals: &mut Totals) {
    if ranges.cluster.count > 0 && ranges.local.count == 0 {
        let external =
            service.r#type != model::ServiceType::ClusterIp || !service.external_ips.is_empty();
        totals.no_local_external[usize::from(v6)] +=
            u32::from(external && service.external_policy == TrafficPolicy::Local);
        totals.no_local_internal[usize::from(v6)] +=
            u32::from(service.internal_policy == TrafficPolicy::Local);
    }
}
