// SPDX-License-Identifier: Apache-2.0
//! The desired and the written state of all services, and the plans between the two.

mod adoption;
mod planning;
mod pods;
mod reading;
pub(super) mod wishes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::adopt::Adopted;
use super::claims::Claims;
use super::forwarding::Forwarding;
use super::frontends::{Serve, frontend_name};
use super::host_ports::HostPortCount;
use super::objects::Objects;
use super::owner::Owner;
use super::plan::{Plan, Totals, Write};
use super::pods::Pods;
use super::record::{Record, end};
use super::tables::{Selection, Tables};
use super::targets::{Target, Targets, TargetsFull};
use super::vips::Vips;
use crate::abi::TargetStatus;
use crate::model::{self, EndpointSlice, ObjectName, Problem};

/// What of this node the choice of endpoints depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub node: Arc<str>,
    pub zone: Option<Arc<str>>,
    pub labels: BTreeMap<String, String>,
    /// The node's own that answer health checks, in the order of preference.
    pub addresses: Vec<IpAddr>,
    pub serve: Serve,
}

impl Context {
    /// Serves everything, with Kubernetes' default range of NodePorts.
    pub fn of(node: &str) -> Self {
        let serve = Serve {
            node_ports: Some(30000..=32767),
            external: true,
            host_ports: true,
            source_ranges_all_types: false,
            classes: Vec::new(),
            forwarding: Forwarding::default(),
        };
        Self {
            node: node.into(),
            zone: None,
            labels: BTreeMap::new(),
            addresses: Vec::new(),
            serve,
        }
    }
}

/// See the module's words.
#[derive(Debug)]
pub struct Balancer {
    context: Context,
    objects: Objects,
    claims: Claims,
    /// Everyone there was at the start has made its claims.
    claimed: bool,
    pods: Pods,
    /// Boxed as [`Objects`] are.
    records: HashMap<Owner, Box<Record>>,
    /// What no service owns and is to go.
    orphans: Record,
    adopted: Adopted,
    targets: Targets,
    vips: Vips,
    host_ports: HostPortCount,
    last_id: u32,
    totals: Totals,
    /// Services that did not get all their endpoints in, with how many are out.
    short: BTreeMap<Owner, usize>,
    /// What else is wrong with a service, said when it was planned.
    faults: BTreeMap<Owner, Vec<String>>,
    tables: Tables,
    /// Services without room for a table: their backends are chosen by chance.
    tableless: BTreeSet<Owner>,
}

impl Balancer {
    /// `targets`: number of entries of `target_state`.
    pub fn new(context: Context, targets: u32) -> Self {
        Self {
            context,
            objects: Objects::default(),
            claims: Claims::default(),
            claimed: false,
            pods: Pods::default(),
            records: HashMap::new(),
            orphans: Record::default(),
            adopted: Adopted::default(),
            targets: Targets::new(targets),
            vips: Vips::default(),
            host_ports: HostPortCount::default(),
            last_id: 0,
            totals: Totals::default(),
            short: BTreeMap::new(),
            faults: BTreeMap::new(),
            tables: Tables::new(Selection::default()),
            tableless: BTreeSet::new(),
        }
    }

    /// Before anything is adopted.
    pub fn with_selection(self, selection: Selection) -> Self {
        Self { tables: Tables::new(selection), ..self }
    }

    /// Slices changed since this was asked last, IPv4 first.
    pub fn take_changed_slices(&mut self) -> [u64; 2] {
        self.objects.take_changed_slices()
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Touches the services that the change is about.
    pub fn set_context(&mut self, context: Context) {
        let before = std::mem::replace(&mut self.context, context);
        let now = &self.context;
        let touched: Vec<Owner> = if (&before.node, &before.serve) != (&now.node, &now.serve) {
            let ports = self.pods.keys().map(|key| Owner::HostPort(*key));
            self.objects.names().cloned().map(Owner::Service).chain(ports).collect()
        } else {
            let hinted = self.objects.hinted().filter(|_| before.zone != now.zone);
            let selective = self.objects.selective().filter(|_| before.labels != now.labels);
            hinted.chain(selective).cloned().map(Owner::Service).collect()
        };
        self.objects.dirty.extend(touched);
        if (&before.labels, &before.addresses, &before.serve)
            != (&now.labels, &now.addresses, &now.serve)
        {
            self.objects.touch_checked();
        }
    }

    /// Returns whether anything changed; so do the other changes.
    pub fn set_service(&mut self, service: model::Service) -> bool {
        self.objects.set_service(service)
    }

    pub fn remove_service(&mut self, name: &ObjectName) -> bool {
        self.objects.remove_service(name)
    }

    /// Everything there is; returns the number of changes.
    pub fn list_services(&mut self, services: Vec<model::Service>) -> usize {
        self.objects.list_services(services)
    }

    pub fn set_slice(&mut self, slice: EndpointSlice) -> bool {
        self.objects.set_slice(slice)
    }

    pub fn remove_slice(&mut self, name: &ObjectName) -> bool {
        self.objects.remove_slice(name)
    }

    /// Everything there is; returns the number of changes.
    pub fn list_slices(&mut self, slices: Vec<EndpointSlice>) -> usize {
        self.objects.list_slices(slices)
    }

    /// Services that wait for [`Balancer::plan`].
    pub fn pending(&self) -> usize {
        self.objects.dirty.len()
    }

    /// Plans about `limit` of the services that changed. One batch: carry out each phase of all
    /// its plans before the next phase of any.
    pub fn plan(&mut self, limit: usize) -> Vec<Plan> {
        let batch = self.settle_claims(limit);
        let mut plans: Vec<Plan> = batch.into_iter().map(|name| self.plan_service(name)).collect();
        self.vips.settle(&mut plans);
        self.host_ports.settle(&mut plans);
        plans
    }

    /// All of `plan` but its `later` phase is written.
    pub fn applied(&mut self, plan: &Plan) {
        plan.tables.iter().for_each(|write| self.tables.written(write));
        let record = plan.owner.as_ref().and_then(|name| self.records.get(name));
        for (key, _) in record.iter().flat_map(|record| &record.frontends) {
            self.claims.written(key);
        }
        for gone in &plan.ended {
            self.adopted.unowned.remove(&gone.target);
            self.targets.free(gone.target());
        }
        if !plan.ended.is_empty() {
            self.objects.dirty.extend(self.short.keys().cloned());
        }
    }

    /// A write of `plan` failed. Its service is planned anew when it changes or after
    /// [`Balancer::retry`].
    pub fn failed(&mut self, plan: Plan) {
        self.vips.doubt(&plan);
        self.host_ports.doubt(&plan);
        match &plan.owner {
            Some(name) => self.records.entry(name.clone()).or_default().doubt(plan),
            None => self.orphans.doubt(plan),
        }
    }

    /// Tables that an applied plan `released`, and that nobody can look at any more.
    pub fn release_tables(&mut self, offsets: &[u32]) {
        let mut room = false;
        for offset in offsets {
            room |= self.tables.release(*offset);
        }
        if room {
            self.objects.dirty.extend(self.tableless.iter().cloned());
        }
    }

    pub fn retry(&mut self, owner: &Owner) {
        self.objects.dirty.insert(owner.clone());
    }

    /// A target for something that is no service, with the write that makes it active.
    ///
    /// # Errors
    /// All indices are in use.
    pub fn reserve_target(&mut self) -> Result<(Target, Write), TargetsFull> {
        let target = self.targets.give()?;
        self.adopted.states.remove(&target.index);
        let state = target.state(TargetStatus::Active, 0);
        Ok((target, Write::Target { index: target.index, state }))
    }

    /// The write that ends a reserved target.
    pub fn release_target(&mut self, target: Target) -> Write {
        self.targets.free(target);
        end(target)
    }

    /// Entries of `target_state` that somebody has.
    pub fn targets_in_use(&self) -> u64 {
        self.targets.in_use()
    }

    /// Entries of `maglev` that tables take.
    pub fn tables_in_use(&self) -> u64 {
        self.tables.in_use()
    }

    /// Entries of `vips`.
    pub fn vips_in_use(&self) -> u64 {
        self.vips.in_use()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What cannot be served as asked.
    pub fn problems(&self) -> Vec<Problem> {
        let conflicts = self.claims.conflicts().map(|(key, owner, name)| Problem {
            subject: self.pods.subject(name),
            message: format!(
                "`{}` already belongs to {owner}; give one of the two another address or port",
                frontend_name(key)
            ),
        });
        let short = self.short.iter().map(|(name, out)| Problem {
            subject: self.pods.subject(name),
            message: format!("{out} endpoints find no place in the maps; serve fewer endpoints"),
        });
        let tableless = self.tableless.iter().map(|name| Problem {
            subject: name.to_string(),
            message: "map `maglev` is full: backends are chosen at random; raise `bpf.maglevMax`"
                .to_owned(),
        });
        let faults = self.faults.iter().flat_map(|(name, messages)| {
            messages
                .iter()
                .map(move |message| Problem { subject: name.to_string(), message: message.clone() })
        });
        let refused = self.pods.problems(&self.context.serve);
        conflicts.chain(short).chain(tableless).chain(faults).chain(refused).collect()
    }
}
