// SPDX-License-Identifier: Apache-2.0
//! The frontends a service asks for.

use std::collections::BTreeMap;

use crate::abi::{Addr, ServiceKey, ServiceKind};
use crate::model::{Service, ServicePort, ServiceType};

/// Whether the service is served in a family: it is where it has a cluster IP.
pub(super) fn families(service: &Service) -> impl Iterator<Item = bool> {
    [false, true].into_iter().filter(|v6| service.cluster_ips.iter().any(|ip| ip.is_ipv6() == *v6))
}

/// Every frontend of `port` in one family. An address that is there twice is what it was first, in
/// the order ClusterIP, ExternalIPs, LoadBalancer.
pub(super) fn frontends(
    service: &Service,
    port: &ServicePort,
    v6: bool,
) -> BTreeMap<ServiceKey, ServiceKind> {
    let mut found = BTreeMap::new();
    let mut add = |vip: Addr, number: u16, kind: ServiceKind| {
        found.entry(ServiceKey::new(vip, number, port.protocol.number())).or_insert(kind);
    };
    for ip in service.cluster_ips.iter().filter(|ip| ip.is_ipv6() == v6) {
        add((*ip).into(), port.port, ServiceKind::ClusterIp);
    }
    for ip in service.external_ips.iter().filter(|ip| ip.is_ipv6() == v6) {
        add((*ip).into(), port.port, ServiceKind::ExternalIp);
    }
    if service.r#type == ServiceType::LoadBalancer {
        let ours = service.ingress.iter().filter(|i| !i.proxied && i.ip.is_ipv6() == v6);
        for ingress in ours {
            add(ingress.ip.into(), port.port, ServiceKind::LoadBalancer);
        }
    }
    if service.r#type != ServiceType::ClusterIp
        && let Some(node_port) = port.node_port.filter(|port| *port != 0)
    {
        let wildcard = if v6 { Addr::V6_WILDCARD } else { Addr::V4_WILDCARD };
        add(wildcard, node_port, ServiceKind::NodePort);
    }
    found
}
