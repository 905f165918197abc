// SPDX-License-Identifier: Apache-2.0
//! What load balancers outside ask a node about: `healthCheckNodePort`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::balancer::Balancer;
use super::objects::Objects;
use crate::model::{ObjectName, ServiceType, TrafficPolicy};

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
            let service = objects.service(name)?;
            let asked = service.r#type == ServiceType::LoadBalancer
                && service.external_policy == TrafficPolicy::Local
                && self.context().serve.external;
            let port = service.health_check_node_port.filter(|_| asked)?;
            let local_endpoints = local_ready(objects, name, &self.context().node);
            Some(HealthCheck { service: name.clone(), port, local_endpoints })
        };
        objects.checked.iter().filter_map(check).collect()
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
