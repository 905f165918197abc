// SPDX-License-Identifier: Apache-2.0
//! hostPorts: which of this node's pods is behind each.
//!
//! Several pods may ask for one hostPort while one replaces another. The newest that lives has it,
//! so the end of the old one changes nothing, and a pod that comes back needs no order of events.

use std::collections::{BTreeMap, HashMap};

use super::annotations::DEFAULT_WEIGHT;
use super::endpoints::{Candidate, Class};
use super::frontends::{Serve, frontend_name};
use super::owner::Owner;
use crate::abi::{Addr, ServiceKey};
use crate::model::{HostPort, ObjectName, Pod, Problem, Protocol};

/// Orders pods by age: creation time, then what else tells two of them apart always the same way.
type Age = (i64, String, ObjectName);

/// Where the container of a pod that asks for a hostPort listens.
#[derive(Debug)]
struct Claimant {
    addr: Addr,
    port: u16,
}

#[derive(Debug, Default)]
pub(super) struct Pods {
    /// Those that have hostPorts.
    pods: HashMap<ObjectName, Pod>,
    wanted: BTreeMap<ServiceKey, BTreeMap<Age, Claimant>>,
}

impl Pods {
    /// Returns the hostPorts to be judged anew. A pod that is no longer to be served is `remove`d.
    pub(super) fn set(&mut self, pod: Pod) -> Vec<ServiceKey> {
        if self.pods.get(&pod.name) == Some(&pod) {
            return Vec::new();
        }
        let mut touched = self.remove(&pod.name);
        for (key, addr, port) in asked(&pod) {
            self.wanted.entry(key).or_default().insert(age(&pod), Claimant { addr, port });
            touched.push(key);
        }
        self.pods.insert(pod.name.clone(), pod);
        touched
    }

    pub(super) fn remove(&mut self, name: &ObjectName) -> Vec<ServiceKey> {
        let Some(pod) = self.pods.remove(name) else { return Vec::new() };
        let keys: Vec<ServiceKey> = asked(&pod).map(|(key, ..)| key).collect();
        for key in &keys {
            if let Some(claimants) = self.wanted.get_mut(key) {
                claimants.remove(&age(&pod));
                if claimants.is_empty() {
                    self.wanted.remove(key);
                }
            }
        }
        keys
    }

    pub(super) fn get(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.pods.keys()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.wanted.keys()
    }

    /// The only backend of a hostPort that is to be served.
    pub(super) fn backend(&self, key: &ServiceKey, serve: &Serve) -> Option<Candidate> {
        let (_, newest) = self.wanted.get(key)?.last_key_value()?;
        refusal(key, serve).is_none().then_some(Candidate {
            class: Class::ReadyLocal,
            addr: newest.addr,
            port: newest.port,
            weight: DEFAULT_WEIGHT,
        })
    }

    /// As `status` names it: by its pod, while there is one.
    pub(super) fn subject(&self, owner: &Owner) -> String {
        let pod = match owner {
            Owner::HostPort(key) => self.wanted.get(key).and_then(BTreeMap::last_key_value),
            Owner::Service(_) | Owner::HealthCheck(_) => None,
        };
        pod.map_or_else(|| owner.to_string(), |((.., name), _)| format!("Pod {name}"))
    }

    /// hostPorts that are not served.
    pub(super) fn problems(&self, serve: &Serve) -> impl Iterator<Item = Problem> {
        let refused = self.wanted.iter().filter_map(|(key, claimants)| {
            Some((key, claimants.last_key_value()?.0, refusal(key, serve)?))
        });
        refused.filter(|_| serve.host_ports).map(|(key, (.., newest), why)| Problem {
            subject: format!("Pod {newest}"),
            message: format!("hostPort `{}` is not served: {why}", frontend_name(key)),
        })
    }
}

fn refusal(key: &ServiceKey, serve: &Serve) -> Option<&'static str> {
    if !serve.host_ports {
        return Some("hostPorts are switched off");
    }
    let range = serve.node_ports.as_ref();
    range.is_some_and(|range| range.contains(&key.port.get())).then_some(
        "the port lies inside `nodePort.range` and may become any Service's; take one outside",
    )
}

fn age(pod: &Pod) -> Age {
    (pod.created, pod.uid.clone(), pod.name.clone())
}

/// Every frontend that `pod` asks for, with the address and port behind it.
fn asked(pod: &Pod) -> impl Iterator<Item = (ServiceKey, Addr, u16)> {
    pod.host_ports.iter().flat_map(|port| {
        let of_family = |v6: bool| pod.ips.iter().find(|ip| ip.is_ipv6() == v6);
        [false, true].into_iter().filter_map(move |v6| {
            let vip = vip(port, v6)?;
            let key = ServiceKey::new(vip, port.host_port, port.protocol.number());
            Some((key, (*of_family(v6)?).into(), port.container_port))
        })
    })
}

fn vip(port: &HostPort, v6: bool) -> Option<Addr> {
    let wildcard = if v6 { Addr::V6_WILDCARD } else { Addr::V4_WILDCARD };
    match port.host_ip {
        None => Some(wildcard),
        Some(ip) if ip.is_ipv6() != v6 => None,
        Some(ip) if ip.is_unspecified() => Some(wildcard),
        Some(ip) => Some(ip.into()),
    }
}

/// The port and protocol that name a hostPort's list.
pub(super) fn protocol(key: &ServiceKey) -> Option<Protocol> {
    Protocol::from_number(key.proto)
}
