// SPDX-License-Identifier: Apache-2.0
//! What load balancers outside ask a node about: `healthCheckNodePort`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::annotations::{Annotations, DEFAULT_WEIGHT};
use super::balancer::Balancer;
use super::balancer::wishes::Wish;
use super::endpoints::{Candidate, Class};
use super::frontends::families;
use super::list::ListKey;
use super::objects::Objects;
use crate::abi::{ServiceKey, ServiceKind};
use crate::model::{ObjectName, Protocol, Service, ServiceType, TrafficPolicy};

/// Of frontends that health checks come to.
const KIND: ServiceKind = ServiceKind::LoadBalancer;

/// A LoadBalancer service with `externalTrafficPolicy: Local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub service: ObjectName,
    pub port: u16,
    /// Ready endpoints on this node. One that terminates is ready only where the service publishes
    /// addresses that are not; others do not count, since nothing new shall come. Of a dual-stack
    /// service those of the family that has more.
    pub local_endpoints: usize,
}

impl Balancer {
    /// Every health check port there is, by service. Costs as much as these services' endpoints.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        let objects = self.objects();
        let check = |name: &ObjectName| {
            let port = self.health_port(objects.service(name)?)?;
            let local_endpoints = local_ready(objects, name, &self.context().node);
            Some(HealthCheck { service: name.clone(), port, local_endpoints })
        };
        objects.checked.iter().filter_map(check).collect()
    }

    fn health_port(&self, service: &Service) -> Option<u16> {
        let asked = service.r#type == ServiceType::LoadBalancer
            && service.external_policy == TrafficPolicy::Local
            && self.context().serve.external;
        service.health_check_node_port.filter(|_| asked)
    }

    /// Load balancers' addresses with their health check ports.
    pub(super) fn health_keys(&self) -> BTreeSet<ServiceKey> {
        let services =
            self.objects().checked.iter().filter_map(|name| self.objects().service(name));
        let keys = services.flat_map(|service| {
            [false, true].into_iter().flat_map(|v6| self.health_keys_of(service, v6))
        });
        keys.collect()
    }

    fn health_keys_of(&self, service: &Service, v6: bool) -> Vec<ServiceKey> {
        let shown = Annotations::of(service).0.serves(KIND, &self.context().labels);
        let port = self.health_port(service).filter(|_| shown);
        let port = port.filter(|_| families(service).any(|family| family == v6));
        let ours = service.ingress.iter().filter(|i| !i.proxied && i.ip.is_ipv6() == v6);
        let key = |ip: IpAddr| Some(ServiceKey::new(ip.into(), port?, Protocol::Tcp.number()));
        ours.filter_map(|ingress| key(ingress.ip)).collect()
    }

    /// What leads a load balancer that probes its own address to this node's answer. No route may
    /// lead there: the address need not be one of the node's.
    pub(super) fn health_frontends(&self, name: &ObjectName, objects: &Objects) -> Vec<Wish> {
        let Some(service) = objects.service(name) else {
            return Vec::new();
        };
        let wish = |v6: bool| {
            let own = self.context().addresses.iter().find(|ip| ip.is_ipv6() == v6)?;
            let keys = self.health_keys_of(service, v6);
            let port = keys.first()?.port.get();
            Some(Wish {
                list: ListKey { port, protocol: Protocol::Tcp, v6 },
                frontends: keys.into_iter().map(|key| (key, KIND)).collect(),
                endpoints: vec![Candidate {
                    class: Class::ReadyLocal,
                    addr: (*own).into(),
                    port,
                    weight: DEFAULT_WEIGHT,
                }],
            })
        };
        [false, true].into_iter().filter_map(wish).collect()
    }
}

fn local_ready(objects: &Objects, service: &ObjectName, node: &str) -> usize {
    let endpoints = objects.slices(service).flat_map(|slice| &slice.endpoints);
    let ready = endpoints.filter(|e| e.ready && e.node.as_deref() == Some(node));
    // An endpoint may be in two slices while it moves.
    let addresses: BTreeSet<IpAddr> = ready.map(|endpoint| endpoint.ip).collect();
    let v6 = addresses.iter().filter(|ip| ip.is_ipv6()).count();
    v6.max(addresses.len() - v6)
}
