// SPDX-License-Identifier: Apache-2.0
//! Builders of model objects, and tables that refuse what a kernel's packets would stumble over.

use std::net::IpAddr;
use std::sync::Arc;

use crate::abi::{Addr, Backend, BackendKey, SERVICE_MAGLEV, ServiceKey, SlotRange};
use crate::lb::{
    Actual, Balancer, Context, Gone, Owner, Plan, Selection, Target, Write, tables_of,
};
use crate::model::{
    Endpoint, EndpointSlice, HostPort, ObjectName, Pod, Protocol, Service, ServicePort,
    ServiceType, SlicePort, TrafficPolicy,
};

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

pub(super) fn http(name: &str, port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol: Protocol::Tcp, port, node_port: None }
}

pub(super) fn service(of: &str, cluster_ips: &[&str]) -> Service {
    Service {
        name: name(of),
        r#type: ServiceType::ClusterIp,
        cluster_ips: cluster_ips.iter().map(|text| ip(text)).collect(),
        external_ips: vec![],
        ingress: vec![],
        ports: vec![http("", 80)],
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        affinity_timeout: None,
        source_ranges: vec![],
        load_balancer_class: None,
        health_check_node_port: None,
        distribution: None,
        annotations: Default::default(),
        cluster: None,
    }
}

pub(super) fn endpoint(address: &str) -> Endpoint {
    Endpoint {
        ip: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    }
}

impl Endpoint {
    pub(super) fn on(self, node: &str) -> Self {
        Self { node: Some(Arc::from(node)), ..self }
    }

    pub(super) fn terminating(self) -> Self {
        Self { ready: false, terminating: true, ..self }
    }
}

/// One slice on port 8080, of the service of the same name.
pub(super) fn slice(of: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: name(of),
        service: name(of),
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints,
        triggered: None,
        annotations: Default::default(),
    }
}

impl EndpointSlice {
    pub(super) fn of(self, service: &str) -> Self {
        Self { service: name(service), ..self }
    }
}

/// A pod of this node whose container's port 80/TCP is `port` of the node.
pub(super) fn pod(of: &str, address: &str, host_ip: Option<&str>, port: u16) -> Pod {
    Pod {
        name: name(of),
        uid: of.to_owned(),
        created: 0,
        node: Some("here".to_owned()),
        ips: vec![ip(address)],
        host_network: false,
        finished: false,
        host_ports: vec![HostPort {
            host_ip: host_ip.map(ip),
            host_port: port,
            container_port: 80,
            protocol: Protocol::Tcp,
        }],
        annotations: Default::default(),
    }
}

/// One backend list as it is written.
pub(super) struct ListView<'a> {
    pub(super) owner: &'a Owner,
    pub(super) port: u16,
    pub(super) v6: bool,
    pub(super) id: u32,
    pub(super) slots: &'a [Backend],
}

impl Balancer {
    /// Every list that is written, in no order.
    pub(super) fn lists(&self) -> impl Iterator<Item = ListView<'_>> {
        self.records().filter_map(|(owner, record)| Some((owner?, record))).flat_map(
            |(owner, record)| {
                record.lists.iter().map(move |list| ListView {
                    owner,
                    port: list.key.port,
                    v6: list.key.v6,
                    id: list.id,
                    slots: &list.slots,
                })
            },
        )
    }
}

/// A balancer and the tables it writes.
pub(super) struct Kernel {
    pub(super) balancer: Balancer,
    pub(super) tables: Actual,
    targets: u32,
    selection: Selection,
    pub(super) context: Context,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self::with_targets(1024)
    }

    pub(super) fn with_targets(targets: u32) -> Self {
        Self::choosing(targets, Selection::default(), "here")
    }

    /// The node `node`, whose map `maglev` is `selection.words` long.
    pub(super) fn choosing(targets: u32, selection: Selection, node: &str) -> Self {
        let addresses = vec![ip("10.9.0.1")];
        let context = Context { addresses, ..Context::of(node) };
        let balancer = Balancer::new(context.clone(), targets).with_selection(selection);
        Self { balancer, tables: Actual::default(), targets, selection, context }
    }

    pub(super) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    pub(super) fn restart_with(&mut self, reserved: &[Target]) {
        let fresh = Balancer::new(self.context.clone(), self.targets);
        self.balancer = fresh.with_selection(self.selection);
        self.balancer.adopt(self.tables.clone(), reserved);
    }

    /// Plans and applies until nothing is dirty. Returns the targets that ended.
    pub(super) fn sync(&mut self) -> Vec<Gone> {
        let mut ended = Vec::new();
        while self.balancer.pending() > 0 {
            let plans = self.balancer.plan(2);
            ended.extend(plans.iter().flat_map(|plan| plan.ended.clone()));
            self.apply(plans);
        }
        ended
    }

    pub(super) fn prune(&mut self) {
        let plan = self.balancer.prune(true);
        self.apply(vec![plan]);
    }

    pub(super) fn apply(&mut self, plans: Vec<Plan>) {
        self.write_tables(&plans);
        for write in writes(&plans) {
            self.write(write);
        }
        for plan in plans {
            self.balancer.applied(&plan);
            self.balancer.release_tables(&plan.released);
        }
    }

    /// No frontend may point to a table while it is written over with another.
    pub(super) fn write_tables(&mut self, plans: &[Plan]) {
        for table in plans.iter().flat_map(|plan| &plan.tables) {
            let end = table.offset + table.places.len() as u32;
            assert!(table.offset % 4 == 0 && end <= 4 * self.selection.words);
            let used = tables_of(self.tables.services.values());
            for (offset, size) in used.into_iter().filter(|(o, s)| *o < end && table.offset < o + s)
            {
                let same = offset == table.offset && size as usize == table.places.len();
                assert!(same && self.tables.tables[&offset] == table.places, "{offset} is in use");
            }
            let apart =
                |offset: &u32, size: usize| *offset >= end || offset + size as u32 <= table.offset;
            self.tables.tables.retain(|offset, old| apart(offset, old.len()));
            self.tables.tables.insert(table.offset, Arc::clone(&table.places));
        }
    }

    /// One write; no frontend may ever point to a slot that is not there.
    pub(super) fn write(&mut self, write: Write) {
        self.tables.apply(write);
        match write {
            Write::Service { key, .. } => self.check(key),
            // A removed slot may be anybody's.
            Write::RemoveBackend { .. } => {
                self.tables.services.keys().for_each(|key| self.check(*key));
            }
            Write::RemoveVip { addr } => {
                let uses = |key: &&ServiceKey| key.vip == addr;
                assert_eq!(self.tables.services.keys().find(uses), None, "{addr} is in use");
            }
            _ => {}
        }
    }

    fn check(&self, key: ServiceKey) {
        let value = self.tables.services[&key];
        let wildcard = key.vip == Addr::V4_WILDCARD || key.vip == Addr::V6_WILDCARD;
        assert!(wildcard || self.tables.vips.contains_key(&key.vip), "no vip for {key:?}");
        if value.algorithm == SERVICE_MAGLEV {
            let places = &self.tables.tables[&value.maglev_offset];
            assert_eq!(places.len(), value.maglev_size as usize);
            assert!(places.iter().all(|place| *place < value.outside.count));
        }
        for range in [value.inside, value.outside] {
            self.slots(value.id, value.generation, range);
        }
    }

    fn slots(&self, service: u32, generation: u32, range: SlotRange) -> Vec<Backend> {
        (range.first..range.first + range.count)
            .map(|slot| {
                let key = BackendKey { service, generation, slot: slot.into() };
                let backend = self.tables.backends.get(&key);
                *backend.unwrap_or_else(|| panic!("a frontend points to missing {key:?}"))
            })
            .collect()
    }

    pub(super) fn inside(&self, key: ServiceKey) -> Vec<String> {
        let value = self.tables.services[&key];
        names(&self.slots(value.id, value.generation, value.inside))
    }

    pub(super) fn outside(&self, key: ServiceKey) -> Vec<String> {
        let value = self.tables.services[&key];
        names(&self.slots(value.id, value.generation, value.outside))
    }

    pub(super) fn backend(&self, service: u32, address: &str) -> Backend {
        let mut of = self.tables.backends.iter().filter(|(key, _)| key.service == service);
        *of.find(|(_, backend)| backend.addr.ip() == ip(address)).unwrap().1
    }

    /// The target of the only endpoint `address`.
    pub(super) fn target(&self, address: &str) -> u32 {
        self.tables.backends.values().find(|b| b.addr.ip() == ip(address)).unwrap().target
    }
}

/// All writes of a batch, in the order in which the agent carries them out.
pub(super) fn writes(plans: &[Plan]) -> Vec<Write> {
    (0..6)
        .flat_map(|phase| plans.iter().filter_map(move |p| p.phases().nth(phase)))
        .flatten()
        .copied()
        .collect()
}

fn names(slots: &[Backend]) -> Vec<String> {
    slots.iter().map(|b| std::net::SocketAddr::new(b.addr.ip(), b.port.get()).to_string()).collect()
}
