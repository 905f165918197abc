// SPDX-License-Identifier: Apache-2.0
//! The frontends a service asks for.

use std::collections::BTreeMap;

use std::ops::RangeInclusive;

use super::forwarding::Forwarding;
use crate::abi::{Addr, ServiceKey, ServiceKind};
use crate::model::{Protocol, Service, ServicePort, ServiceType};

/// Which frontends besides ClusterIPs are served. What is not here goes to nobody's list: another
/// proxy may have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// NodePorts in this range; None: no NodePort.
    pub node_ports: Option<RangeInclusive<u16>>,
    /// externalIPs and LoadBalancer addresses.
    pub external: bool,
    pub host_ports: bool,
    /// loadBalancerSourceRanges also guard NodePorts and externalIPs.
    pub source_ranges_all_types: bool,
    /// Values of `spec.loadBalancerClass` whose load balancers leave the address to us. An address
    /// of any other class may have ports that we know nothing of.
    pub classes: Vec<String>,
    pub forwarding: Forwarding,
}

impl Serve {
    /// What of the service cannot be served although services like it are.
    pub(super) fn faults(&self, service: &Service) -> impl Iterator<Item = String> {
        let range = self.node_ports.as_ref();
        let ports = service.ports.iter().filter_map(node_port_of(service));
        let outside = ports.filter(move |port| range.is_some_and(|range| !range.contains(port)));
        outside.map(|port| format!("NodePort {port} lies outside `nodePort.range`; widen that"))
    }
}

fn node_port_of(service: &Service) -> impl Fn(&ServicePort) -> Option<u16> {
    let has = service.r#type != ServiceType::ClusterIp;
    move |port| port.node_port.filter(|port| has && *port != 0)
}

/// Whether the service is served in a family: it is where it has a cluster IP.
pub(super) fn families(service: &Service) -> impl Iterator<Item = bool> {
    [false, true].into_iter().filter(|v6| service.cluster_ips.iter().any(|ip| ip.is_ipv6() == *v6))
}

/// Every frontend of `port` in one family. An address that is there twice is what it was first, in
/// the order ClusterIP, LoadBalancer, ExternalIPs: as between services, what a controller gave out
/// counts before what anybody may write, and it has `loadBalancerSourceRanges`.
pub(super) fn frontends(
    service: &Service,
    port: &ServicePort,
    v6: bool,
    serve: &Serve,
) -> BTreeMap<ServiceKey, ServiceKind> {
    let mut found = BTreeMap::new();
    let mut add = |vip: Addr, number: u16, kind: ServiceKind| {
        found.entry(ServiceKey::new(vip, number, port.protocol.number())).or_insert(kind);
    };
    for ip in service.cluster_ips.iter().filter(|ip| ip.is_ipv6() == v6) {
        add((*ip).into(), port.port, ServiceKind::ClusterIp);
    }
    if serve.external && service.r#type == ServiceType::LoadBalancer {
        let ours = service.ingress.iter().filter(|i| !i.proxied && i.ip.is_ipv6() == v6);
        for ingress in ours {
            add(ingress.ip.into(), port.port, ServiceKind::LoadBalancer);
        }
    }
    for ip in service.external_ips.iter().filter(|ip| serve.external && ip.is_ipv6() == v6) {
        add((*ip).into(), port.port, ServiceKind::ExternalIp);
    }
    if let Some(range) = &serve.node_ports
        && let Some(node_port) = node_port_of(service)(port).filter(|port| range.contains(port))
    {
        let wildcard = if v6 { Addr::V6_WILDCARD } else { Addr::V4_WILDCARD };
        add(wildcard, node_port, ServiceKind::NodePort);
    }
    found
}

/// `10.0.0.1:80/TCP`, or `*:30080/TCP` for a wildcard.
pub(super) fn frontend_name(key: &ServiceKey) -> String {
    let protocol = Protocol::from_number(key.proto).map_or("?", Protocol::name);
    match key.vip.ip() {
        ip if ip.is_unspecified() => format!("*:{}/{protocol}", key.port),
        std::net::IpAddr::V6(ip) => format!("[{ip}]:{}/{protocol}", key.port),
        ip => format!("{ip}:{}/{protocol}", key.port),
    }
}
