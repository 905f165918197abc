// SPDX-License-Identifier: Apache-2.0
//! What would happen to a new connection, and why: from the functions that fill the maps.

mod answer;
mod facts;
mod judge;
mod standing;
mod unserved;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

pub use answer::{
    Answer, EndpointView, Explanation, Fate, FrontendView, PortView, Rule, Side, Unserved, Verdict,
};
pub use facts::{Facts, Sockets};

use super::annotations::Annotations;
use super::balancer::Balancer;
use super::balancer::wishes::Wish;
use super::endpoints::Ranges;
use super::frontends::frontend_name;
use super::list::List;
use super::owner::Owner;
use super::value::{policies, value};
use crate::abi::{Addr, ServiceKey, ServiceKind};
use crate::model::{self, ObjectName, Protocol, ServicePort, TrafficPolicy};
use judge::Case;
use standing::{Standing, left_out};

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// All frontends of a service.
    Service(ObjectName),
    /// What packets to an address find there. An address of this node also has its NodePorts and
    /// hostPorts.
    Address(IpAddr, u16),
}

/// What of a service an answer is about.
#[derive(Clone, Copy)]
struct Focus {
    key: Option<ServiceKey>,
    asked: Option<IpAddr>,
}

impl Balancer {
    /// A service that is not served here yields an answer about nothing.
    pub fn explain(&self, question: &Question, facts: &Facts<'_>) -> Answer {
        let (ip, port) = match question {
            Question::Service(name) => {
                let all = Focus { key: None, asked: None };
                let service = self.explanation(&Owner::Service(name.clone()), all, facts);
                return Answer { services: service.into_iter().collect(), ..Answer::default() };
            }
            Question::Address(ip, port) => (*ip, *port),
        };
        let services = self.keys_at(ip, port, facts).into_iter().filter_map(|key| {
            let focus = Focus { key: Some(key), asked: Some(ip) };
            self.explanation(self.claims().owner(&key)?, focus, facts)
        });
        let services: Vec<Explanation> = services.collect();
        if !services.is_empty() {
            return Answer { services, ..Answer::default() };
        }
        let vip = self.vips().flags(&ip.into());
        let otherwise = judge::unknown(ip, vip, facts);
        Answer { otherwise, notes: self.nearby(ip, port), ..Answer::default() }
    }

    /// The frontends that packets to `ip:port` find, of every protocol.
    fn keys_at(&self, ip: IpAddr, port: u16, facts: &Facts<'_>) -> Vec<ServiceKey> {
        let wildcard = if ip.is_ipv6() { Addr::V6_WILDCARD } else { Addr::V4_WILDCARD };
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(Protocol::number);
        let find = |proto| {
            let exact = Some(ServiceKey::new(ip.into(), port, proto));
            let wildcard = facts.owns(ip).then(|| ServiceKey::new(wildcard, port, proto));
            let has_owner = |key: &ServiceKey| self.claims().owner(key).is_some();
            [exact, wildcard].into_iter().flatten().find(has_owner)
        };
        protocols.into_iter().filter_map(find).collect()
    }

    /// What there is instead.
    fn nearby(&self, ip: IpAddr, port: u16) -> Vec<String> {
        let mut ports: Vec<String> = Vec::new();
        let mut wildcards: BTreeSet<String> = BTreeSet::new();
        for (key, owner) in self.claims().all() {
            if key.vip == Addr::from(ip) {
                ports.push(format!("{} is {owner}", frontend_name(key)));
            } else if is_wildcard(key.vip) && key.port.get() == port {
                wildcards.insert(format!(
                    "{port} is a port of every node, {owner}: the node that has {ip} serves it"
                ));
            }
        }
        ports.sort_unstable();
        ports.into_iter().chain(wildcards).collect()
    }

    fn explanation(&self, owner: &Owner, focus: Focus, facts: &Facts<'_>) -> Option<Explanation> {
        let (service, wishes) = self.wishes(owner, self.objects())?;
        let mut served = BTreeSet::new();
        let mut ports = Vec::new();
        for wish in wishes {
            served.extend(wish.frontends.keys().copied());
            ports.extend(self.port(owner, &service, &wish, focus, facts));
        }
        let subject = self.subject(owner);
        let named = self.problems().into_iter().filter(|problem| problem.subject == subject);
        let problems = named.map(|problem| problem.message).collect();
        let unserved = match (owner, focus.key) {
            (Owner::Service(_), None) => self.unserved(owner, &service, &served),
            _ => Vec::new(),
        };
        Some(Explanation { subject, rules: rules(owner, &service), ports, unserved, problems })
    }

    /// None: the question is about another port.
    fn port(
        &self,
        owner: &Owner,
        service: &model::Service,
        wish: &Wish,
        focus: Focus,
        facts: &Facts<'_>,
    ) -> Option<PortView> {
        let in_focus = |key: &ServiceKey| focus.key.is_none_or(|only| only == *key);
        let frontends = wish.frontends.iter().filter(|(key, _)| in_focus(key));
        let frontends: Vec<(ServiceKey, ServiceKind)> = frontends.map(|(k, v)| (*k, *v)).collect();
        if frontends.is_empty() && focus.key.is_some() {
            return None;
        }
        let fresh = List::new(wish.list, 0);
        let list = self.list_of(owner, wish.list).unwrap_or(&fresh);
        let all = wish.endpoints.len();
        let placed = if self.is_short(owner) { list.slots.len().min(all) } else { all };
        let ranges = Ranges::of(wish.endpoints[..placed].iter().map(|endpoint| endpoint.class));
        let (annotations, _) = Annotations::of(service);
        let serve = &self.context().serve;
        let view = |(key, kind): &(ServiceKey, ServiceKind)| {
            // What is written says most: whether there was room for a table, for one. While a
            // change waits for its plan it is what will be written.
            let computed = value(service, &annotations, list, ranges, (key, *kind), serve);
            let written = self.value_of(owner, key).filter(|_| !self.is_pending(owner));
            let value = written.unwrap_or(computed);
            let case = Case {
                service,
                key: *key,
                kind: *kind,
                value,
                list,
                endpoints: &wish.endpoints,
                asked: focus.asked,
            };
            let wildcard = is_wildcard(key.vip);
            FrontendView {
                frontend: frontend_name(key),
                service_type: kind.name().to_owned(),
                addresses: if wildcard {
                    facts.wildcard_addresses(wish.list.v6)
                } else {
                    Vec::new()
                },
                verdicts: case.verdicts(facts),
            }
        };
        let used = |policy: TrafficPolicy| {
            frontends.iter().any(|(_, kind)| {
                let (outside, inside) = policies(service, *kind);
                facts.sides().any(|side| match side {
                    Side::Outside => outside == Some(policy),
                    Side::Node | Side::Pod => inside == policy,
                })
            })
        };
        let standing = Standing {
            endpoints: &wish.endpoints,
            placed,
            ranges,
            cluster_used: used(TrafficPolicy::Cluster),
            local_used: used(TrafficPolicy::Local),
        };
        let mut endpoints = standing.views();
        if let Owner::Service(name) = owner
            && let Some(port) = service_port(service, wish)
        {
            let slices = self.objects().slices(name);
            endpoints.extend(left_out(slices, port, wish.list, &wish.endpoints));
        }
        for endpoint in &mut endpoints {
            endpoint.node = self.node_of(owner, &endpoint.address);
        }
        Some(PortView {
            port: wish.list.port,
            protocol: wish.list.protocol.name().to_owned(),
            family: if wish.list.v6 { "IPv6" } else { "IPv4" }.to_owned(),
            id: list.id,
            frontends: frontends.iter().map(view).collect(),
            endpoints,
        })
    }

    /// `address` with or without a port.
    fn node_of(&self, owner: &Owner, address: &str) -> String {
        let Owner::Service(name) = owner else {
            return self.context().node.to_string();
        };
        let ip = address.parse::<SocketAddr>().map(|address| address.ip());
        let ip = ip.or_else(|_| address.parse::<IpAddr>());
        let mut endpoints = self.objects().slices(name).flat_map(|slice| &slice.endpoints);
        let endpoint = endpoints.find(|endpoint| ip == Ok(endpoint.ip));
        endpoint.and_then(|endpoint| endpoint.node.as_deref()).unwrap_or_default().to_owned()
    }
}

fn service_port<'s>(service: &'s model::Service, wish: &Wish) -> Option<&'s ServicePort> {
    let list = &wish.list;
    service.ports.iter().find(|port| (port.port, port.protocol) == (list.port, list.protocol))
}

fn is_wildcard(vip: Addr) -> bool {
    vip == Addr::V4_WILDCARD || vip == Addr::V6_WILDCARD
}

fn socket_address(addr: Addr, port: u16) -> String {
    SocketAddr::new(addr.ip(), port).to_string()
}

/// What of the object decides.
fn rules(owner: &Owner, service: &model::Service) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |name: &str, value: String| rules.push(Rule { name: name.to_owned(), value });
    let special = match owner {
        Owner::Service(_) => None,
        Owner::HealthCheck(_) => Some(("healthCheckNodePort", "each node answers for itself")),
        Owner::HostPort(_) => Some(("hostPort", "the newest live pod that asks for it has it")),
    };
    if let Some((name, value)) = special {
        add(name, value.to_owned());
        return rules;
    }
    add("type", service.r#type.name().to_owned());
    add("externalTrafficPolicy", format!("{:?}", service.external_policy));
    add("internalTrafficPolicy", format!("{:?}", service.internal_policy));
    match service.affinity_timeout {
        Some(seconds) => add("sessionAffinity", format!("ClientIP, for {seconds} s")),
        None => add("sessionAffinity", "None".to_owned()),
    }
    if let Some(distribution) = service.distribution {
        add("trafficDistribution", format!("{distribution:?}"));
    }
    if let Some(class) = &service.load_balancer_class {
        add("loadBalancerClass", class.clone());
    }
    if !service.source_ranges.is_empty() {
        let ranges: Vec<String> = service.source_ranges.iter().map(ToString::to_string).collect();
        add("loadBalancerSourceRanges", ranges.join(", "));
    }
    for (key, value) in &service.annotations {
        add(key, value.clone());
    }
    rules
}
