// SPDX-License-Identifier: Apache-2.0
//! What a service or hostPort asks for: backend lists, and the frontends that lead to each.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Balancer;
use crate::abi::{ServiceKey, ServiceKind};
use crate::lb::annotations::Annotations;
use crate::lb::endpoints::{Candidate, candidates};
use crate::lb::frontends::{families, frontends};
use crate::lb::list::ListKey;
use crate::lb::objects::Objects;
use crate::lb::owner::Owner;
use crate::lb::pods::protocol;
use crate::model::{ObjectName, Service, ServicePort, ServiceType, TrafficPolicy};

pub(in crate::lb) struct Wish {
    pub(in crate::lb) list: ListKey,
    pub(in crate::lb) frontends: BTreeMap<ServiceKey, ServiceKind>,
    pub(in crate::lb) endpoints: Vec<Candidate>,
}

impl Balancer {
    /// Every frontend that `owner` asks for, whoever has it.
    pub(super) fn wanted_keys(&self, owner: &Owner) -> BTreeMap<ServiceKey, ServiceKind> {
        match owner {
            Owner::Service(name) => {
                let Some(service) = self.objects.service(name) else { return BTreeMap::new() };
                let (annotations, _) = Annotations::of(service);
                let lists =
                    families(service).flat_map(|v6| service.ports.iter().map(move |p| (p, v6)));
                let all = lists.map(|(port, v6)| self.frontends(service, &annotations, port, v6));
                all.flatten().collect()
            }
            Owner::HealthCheck(name) => {
                let asked = self.health_frontends(name, &self.objects);
                asked.into_iter().flat_map(|asked| asked.frontends).collect()
            }
            Owner::HostPort(key) => {
                let served = self.pods.backend(key, &self.context.serve).is_some();
                served.then_some((*key, ServiceKind::HostPort)).into_iter().collect()
            }
        }
    }

    /// What `owner` asks for, with the rules that hold for it. None: nothing any more.
    pub(in crate::lb) fn wishes<'o>(
        &self,
        owner: &Owner,
        objects: &'o Objects,
    ) -> Option<(Cow<'o, Service>, Vec<Wish>)> {
        match owner {
            Owner::Service(name) => {
                let service = objects.service(name)?;
                Some((Cow::Borrowed(service), self.service_wishes(owner, service, objects)))
            }
            Owner::HealthCheck(name) => {
                let mut wishes = self.health_frontends(name, objects);
                for wish in &mut wishes {
                    wish.frontends.retain(|key, _| self.claims.owner(key) == Some(owner));
                }
                (!wishes.is_empty()).then(|| (Cow::Owned(without_rules()), wishes))
            }
            Owner::HostPort(key) => {
                let backend = self.pods.backend(key, &self.context.serve)?;
                if self.claims.owner(key) != Some(owner) {
                    return None;
                }
                let protocol = protocol(key)?;
                let v6 = !key.vip.is_v4();
                let wish = Wish {
                    list: ListKey { port: key.port.get(), protocol, v6 },
                    frontends: [(*key, ServiceKind::HostPort)].into(),
                    endpoints: vec![backend],
                };
                Some((Cow::Owned(without_rules()), vec![wish]))
            }
        }
    }

    fn frontends(
        &self,
        service: &Service,
        annotations: &Annotations,
        port: &ServicePort,
        v6: bool,
    ) -> BTreeMap<ServiceKey, ServiceKind> {
        let mut frontends = frontends(service, port, v6, &self.context.serve);
        frontends.retain(|_, kind| annotations.serves(*kind, &self.context.labels));
        frontends
    }

    fn service_wishes(&self, owner: &Owner, service: &Service, objects: &Objects) -> Vec<Wish> {
        let mut wishes: Vec<Wish> = Vec::new();
        let (annotations, _) = Annotations::of(service);
        for v6 in families(service) {
            for port in &service.ports {
                let list = ListKey { port: port.port, protocol: port.protocol, v6 };
                if wishes.iter().any(|other| other.list == list) {
                    continue;
                }
                let mut frontends = self.frontends(service, &annotations, port, v6);
                frontends.retain(|key, _| self.claims.owner(key) == Some(owner));
                let slices = objects.slices(&service.name);
                let endpoints = candidates(slices, port, v6, &self.context);
                wishes.push(Wish { list, frontends, endpoints });
            }
        }
        wishes
    }
}

/// Neither a hostPort nor a health check has a policy, affinity or ranges.
fn without_rules() -> Service {
    Service {
        name: ObjectName::new("", ""),
        r#type: ServiceType::ClusterIp,
        cluster_ips: Vec::new(),
        external_ips: Vec::new(),
        ingress: Vec::new(),
        ports: Vec::new(),
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        affinity_timeout: None,
        source_ranges: Vec::new(),
        load_balancer_class: None,
        health_check_node_port: None,
        distribution: None,
        annotations: BTreeMap::new(),
        cluster: None,
    }
}
