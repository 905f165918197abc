// SPDX-License-Identifier: Apache-2.0
//! What the tables must say for a set of objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::random::MAGLEV;
use super::support::Kernel;
use crate::abi::{
    Addr, SERVICE_HAS_ENDPOINTS, SERVICE_MAGLEV, SERVICE_SOURCE_RANGES, ServiceKey, ServiceKind,
    SourceRangeKey, TargetStatus, VIP_CLUSTER_IP, VIP_EXTERNAL, VIP_FOREIGN,
};
use crate::lb::frontends::{families, frontends};
use crate::lb::{Context, Owner};
use crate::model::{Endpoint, EndpointSlice, Pod, Protocol, Service, ServiceType, TrafficPolicy};

/// What the objects ask for, said in the plainest way.
#[derive(Default)]
pub(super) struct World {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) slices: BTreeMap<usize, EndpointSlice>,
    pub(super) pods: BTreeMap<String, Pod>,
}

type Set = BTreeSet<(Addr, u16)>;

impl World {
    fn endpoints(&self, service: &Service, port: usize, v6: bool, local: bool) -> Set {
        let port = &service.ports[port];
        let of = self.slices.values().filter(|s| s.service == service.name);
        let all: Vec<(&Endpoint, u16)> = of
            .flat_map(|s| {
                let ports =
                    s.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
                ports.flat_map(|p| s.endpoints.iter().map(|e| (e, p.port)))
            })
            .filter(|(e, _)| e.ip.is_ipv6() == v6)
            .collect();
        // An address is one endpoint, whichever slice says most for it.
        let pick = |usable: &dyn Fn(&Endpoint) -> bool| -> Set {
            all.iter()
                .filter(|(e, _)| usable(e))
                .filter(|(e, _)| !local || e.node.as_deref() == Some("here"))
                .map(|(e, port)| (Addr::from(e.ip), *port))
                .collect()
        };
        let ready = pick(&|e| e.ready);
        let all_ready: Set =
            all.iter().filter(|(e, _)| e.ready).map(|(e, p)| (Addr::from(e.ip), *p)).collect();
        if !ready.is_empty() {
            return ready;
        }
        pick(&|e| e.serving && e.terminating).difference(&all_ready).copied().collect()
    }

    /// Whether `kernel` serves exactly this.
    pub(super) fn check(&self, kernel: &Kernel) {
        let mut expected = BTreeSet::new();
        for service in self.services.values() {
            for v6 in families(service) {
                for (number, port) in service.ports.iter().enumerate() {
                    for (key, kind) in
                        frontends(service, port, v6, &kernel.balancer.context().serve)
                    {
                        expected.insert(key);
                        self.check_frontend(kernel, key, (service, number, v6, kind));
                    }
                }
            }
        }
        for (key, backend) in self.health_checks(kernel.balancer.context()) {
            assert_eq!(kernel.outside(key), [backend.to_string()], "{key:?}");
            expected.insert(key);
        }
        for (key, pod) in self.host_ports(&expected) {
            assert_eq!(kernel.inside(key), [format!("{}:80", pod.ips[0])], "of {}", pod.name);
            assert_eq!(kernel.outside(key), kernel.inside(key));
            expected.insert(key);
        }
        let found: BTreeSet<ServiceKey> = kernel.tables.services.keys().copied().collect();
        assert_eq!(found, expected);
        self.check_nothing_is_left_over(kernel);
        self.check_addresses(kernel);
        super::explain::agrees(kernel);
    }

    /// Health check ports at load balancers' addresses, with the node's own; all are IPv4.
    fn health_checks(&self, context: &Context) -> BTreeMap<ServiceKey, SocketAddr> {
        let asked = self.services.values().filter(|service| {
            service.r#type == ServiceType::LoadBalancer
                && service.external_policy == TrafficPolicy::Local
                && families(service).any(|v6| !v6)
        });
        let keys = asked.filter_map(|service| {
            let (port, ingress) = (service.health_check_node_port?, service.ingress.first()?);
            let key = ServiceKey::new(ingress.ip.into(), port, Protocol::Tcp.number());
            Some((key, SocketAddr::new(*context.addresses.first()?, port)))
        });
        keys.collect()
    }

    /// Each hostPort that no service has, with its newest pod.
    fn host_ports(&self, services: &BTreeSet<ServiceKey>) -> BTreeMap<ServiceKey, &Pod> {
        let mut newest: BTreeMap<ServiceKey, &Pod> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| !pod.finished) {
            let port = &pod.host_ports[0];
            let vip = port.host_ip.map_or(Addr::V4_WILDCARD, Addr::from);
            let key = ServiceKey::new(vip, port.host_port, Protocol::Tcp.number());
            if port.host_port >= 30000 || services.contains(&key) {
                continue;
            }
            let has = newest.entry(key).or_insert(pod);
            if (pod.created, &pod.uid) > (has.created, &has.uid) {
                *has = pod;
            }
        }
        newest
    }

    /// Somebody who asks for `key` has it, and if it is this service, with the right endpoints.
    fn check_frontend(
        &self,
        kernel: &Kernel,
        key: ServiceKey,
        of: (&Service, usize, bool, ServiceKind),
    ) {
        let (service, port, v6, kind) = of;
        let list =
            kernel.balancer.lists().find(|l| l.id == kernel.tables.services[&key].id).unwrap();
        let Owner::Service(owner) = list.owner else { panic!("{} has {key:?}", list.owner) };
        assert!(self.services.contains_key(&*owner.name), "served by {owner}");
        if *owner != service.name || list.port != service.ports[port].port {
            return;
        }
        let cluster = self.endpoints(service, port, v6, false);
        let local = self.endpoints(service, port, v6, true);
        let under = |policy| if policy == TrafficPolicy::Local { &local } else { &cluster };
        let (inside, outside) = match kind {
            ServiceKind::ClusterIp => (under(service.internal_policy), &Set::new()),
            _ => (&cluster, under(service.external_policy)),
        };
        let set = |names: Vec<String>| -> Set {
            let addresses = names.iter().map(|n| n.parse::<SocketAddr>().unwrap());
            addresses.map(|a| (a.ip().into(), a.port())).collect()
        };
        assert_eq!(&set(kernel.inside(key)), inside, "inside of {key:?}");
        assert_eq!(&set(kernel.outside(key)), outside, "outside of {key:?}");
        let value = kernel.tables.services[&key];
        let asked = service.annotations.contains_key(MAGLEV) && value.outside.count > 1;
        let full = kernel.balancer.problems().iter().any(|p| p.message.contains("`maglev`"));
        assert!(full || asked == (value.algorithm == SERVICE_MAGLEV), "{key:?}");
        let flags = value.flags;
        assert_eq!(flags & SERVICE_HAS_ENDPOINTS != 0, !cluster.is_empty());
    }

    /// Every address of a frontend and every range of a guarded list, and no other.
    fn check_addresses(&self, kernel: &Kernel) {
        let mut vips: BTreeMap<Addr, u32> = BTreeMap::new();
        let mut host_ports = 0;
        let mut ranges = BTreeSet::new();
        for (key, value) in &kernel.tables.services {
            let list = kernel.balancer.lists().find(|list| list.id == value.id).unwrap();
            let service = match list.owner {
                Owner::Service(name) => &self.services[&*name.name],
                Owner::HealthCheck(_) => {
                    *vips.entry(key.vip).or_default() |= VIP_EXTERNAL;
                    continue;
                }
                Owner::HostPort(key) if key.vip == Addr::V4_WILDCARD => {
                    host_ports += 1;
                    continue;
                }
                Owner::HostPort(key) => {
                    vips.entry(key.vip).or_default();
                    continue;
                }
            };
            let flags = match ServiceKind::from_number(value.kind).unwrap() {
                ServiceKind::NodePort => continue,
                ServiceKind::ClusterIp => VIP_CLUSTER_IP,
                ServiceKind::LoadBalancer => {
                    let of = |range: &&ipnet::IpNet| range.addr().is_ipv6() == list.v6;
                    let all = service.source_ranges.iter().filter(of);
                    let keys: Vec<_> =
                        all.map(|range| SourceRangeKey::new(list.id, *range)).collect();
                    let guarded = value.flags & SERVICE_SOURCE_RANGES != 0;
                    assert_eq!(guarded, !keys.is_empty(), "{key:?}");
                    ranges.extend(keys);
                    let foreign = service.load_balancer_class.is_some();
                    VIP_EXTERNAL | if foreign { VIP_FOREIGN } else { 0 }
                }
                _ => VIP_EXTERNAL,
            };
            *vips.entry(key.vip).or_default() |= flags;
        }
        let found = kernel.tables.vips.iter().map(|(addr, vip)| (*addr, vip.flags));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), vips);
        assert_eq!(kernel.tables.source_ranges, ranges);
        assert_eq!(kernel.balancer.totals().source_ranges as usize, ranges.len());
        assert_eq!(kernel.balancer.vips_in_use(), kernel.tables.vips.len() as u64);
        assert_eq!(kernel.tables.host_ports, host_ports);
    }

    pub(super) fn check_nothing_is_left_over(&self, kernel: &Kernel) {
        let tables = &kernel.tables;
        let slots: usize = kernel.balancer.lists().map(|list| list.slots.len()).sum();
        assert_eq!(tables.backends.len(), slots);
        let mut used = BTreeSet::new();
        for (key, backend) in &tables.backends {
            assert!(used.insert(backend.target), "target {} has two backends", backend.target);
            let state = tables.targets[&backend.target];
            assert_eq!(state.epoch, backend.target_epoch);
            assert_eq!(u32::from(state.slot), key.slot, "of target {}", backend.target);
            assert!(
                state.status == TargetStatus::Active as u8
                    || state.status == TargetStatus::Terminating as u8
            );
        }
        for (index, state) in &tables.targets {
            assert!(
                used.contains(index) || state.status == TargetStatus::Gone as u8,
                "target {index} lives on"
            );
        }
    }

    pub(super) fn tell(&self, kernel: &mut Kernel) {
        kernel.balancer.list_services(self.services.values().cloned().collect());
        kernel.balancer.list_slices(self.slices.values().cloned().collect());
        kernel.balancer.list_pods(self.pods.values().cloned().collect());
    }
}
