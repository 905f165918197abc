// SPDX-License-Identifier: Apache-2.0
//! Frontends that a service asks for and does not get on this node.

use std::collections::BTreeSet;

use super::{Unserved, is_wildcard};
use crate::abi::{ServiceKey, ServiceKind};
use crate::lb::annotations::Annotations;
use crate::lb::balancer::Balancer;
use crate::lb::frontends::{Serve, families, frontend_name, frontends};
use crate::lb::owner::Owner;
use crate::model::Service;

impl Balancer {
    pub(super) fn unserved(
        &self,
        owner: &Owner,
        service: &Service,
        served: &BTreeSet<ServiceKey>,
    ) -> Vec<Unserved> {
        let all = Serve {
            node_ports: Some(0..=u16::MAX),
            external: true,
            ..self.context().serve.clone()
        };
        let (annotations, _) = Annotations::of(service);
        let mut found = Vec::new();
        for v6 in [false, true] {
            let has_family = families(service).any(|family| family == v6);
            for port in &service.ports {
                for (key, kind) in frontends(service, port, v6, &all) {
                    if served.contains(&key) || (!has_family && is_wildcard(key.vip)) {
                        continue;
                    }
                    let reason = if has_family {
                        self.why_unserved(owner, &key, kind, &annotations)
                    } else {
                        let family = if v6 { "IPv6" } else { "IPv4" };
                        format!("the service has no cluster IP of family {family}")
                    };
                    let (frontend, service_type) = (frontend_name(&key), kind.name().to_owned());
                    found.push(Unserved { frontend, service_type, reason });
                }
            }
        }
        found.extend(service.ingress.iter().filter(|ingress| ingress.proxied).map(|ingress| {
            Unserved {
                frontend: ingress.ip.to_string(),
                service_type: ServiceKind::LoadBalancer.name().to_owned(),
                reason: "`ipMode: Proxy`: every client goes to the load balancer itself".to_owned(),
            }
        }));
        found
    }

    fn why_unserved(
        &self,
        owner: &Owner,
        key: &ServiceKey,
        kind: ServiceKind,
        annotations: &Annotations,
    ) -> String {
        let serve = &self.context().serve;
        match (kind, &serve.node_ports) {
            (ServiceKind::ExternalIp | ServiceKind::LoadBalancer, _) if !serve.external => {
                return "`externalIPs.enabled` or `kubeProxyReplacement` is off".to_owned();
            }
            (ServiceKind::NodePort, None) => {
                return "`nodePort.enabled` or `kubeProxyReplacement` is off".to_owned();
            }
            (ServiceKind::NodePort, Some(range)) if !range.contains(&key.port.get()) => {
                return "outside `nodePort.range`".to_owned();
            }
            _ => {}
        }
        if !annotations.serves(kind, &self.context().labels) {
            return "the service's annotations leave it out, here or everywhere".to_owned();
        }
        match self.claims().owner(key) {
            Some(other) if other != owner => format!("{other} has it"),
            _ => "not planned yet".to_owned(),
        }
    }
}
