// SPDX-License-Identifier: Apache-2.0
//! What operators ask the loop: why a connection goes where it goes, and whether everything is as it
//! should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::apply::read;
use super::chain;
use super::command::Asked;
use super::core::Core;
use super::source::Snapshot;
use crate::abi::{Addr, AffinityKey, Client};
use crate::datapath::host;
use crate::datapath::netlink::View;
use crate::lb::{Answer, Facts, Side, Sockets, Target};
use crate::model::{Change, Kind, ObjectKey, Problem};

/// Which objects the source told of while somebody compares: a list that was asked for before is no
/// witness about them.
#[derive(Debug, Default)]
pub struct Noted(Mutex<News>);

#[derive(Debug, Default)]
struct News {
    objects: BTreeSet<ObjectKey>,
    listed: bool,
}

impl Noted {
    fn note(&self, change: &Change) {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Set(object) => drop(news.objects.insert(object.key())),
            Change::Removed(key) => drop(news.objects.insert(key.clone())),
            Change::Listed(..) => news.listed = true,
        }
    }
}

/// Those who compare at the moment.
#[derive(Debug, Default)]
pub struct Observers(Vec<Weak<Noted>>);

impl Observers {
    pub(super) fn add(&mut self, noted: &Arc<Noted>) {
        self.0.push(Arc::downgrade(noted));
    }

    pub(super) fn note(&mut self, change: &Change) {
        if self.0.is_empty() {
            return;
        }
        self.0.retain(|observer| match observer.upgrade() {
            Some(noted) => {
                noted.note(change);
                true
            }
            None => false,
        });
    }
}

/// Why a comparison says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// Ask again: the source was listed anew meanwhile.
    Moved,
    NotReady(&'static str),
    Failed(String),
}

impl Core {
    pub(super) fn explain(&self, asked: &Asked, view: &View) -> Answer {
        let features = self.report.features();
        let sockets = match (features.socket_lb.effective.as_str(), &self.config.socket_lb) {
            ("Enabled", socket_lb) if socket_lb.host_namespace_only => Sockets::TheNodes,
            ("Enabled", _) => Sockets::Everyones,
            _ => Sockets::Nobodys,
        };
        let remembered = |list, client| self.remembered(list, client);
        let facts = Facts {
            owned: &view.owned,
            external_ips_inside: self.config.external_ips_inside,
            sockets,
            accelerated: self.acceleration.feature().effective != "Disabled",
            client: asked.from.map(|ip| (ip, self.side(ip, view))),
            remembered: &remembered,
        };
        self.sync.balancer().explain(&asked.question, &facts)
    }

    /// Pods of this node and the node itself are inside, all others come in over a wire.
    fn side(&self, client: IpAddr, view: &View) -> Side {
        if client.is_loopback() || view.owned.contains_key(&Addr::from(client)) {
            Side::Node
        } else if self.endpoints.at(client).is_some() {
            Side::Pod
        } else {
            Side::Outside
        }
    }

    fn remembered(&self, service: u32, client: Addr) -> Option<(Target, u32)> {
        let maps = self.datapath.maps();
        let found = maps.affinities.get(&AffinityKey { client, service, pad: 0 }).ok()??;
        // A CPU may be in the next tick already.
        let age = host::ticks_now().wrapping_sub(found.last_used).cast_signed().max(0);
        Some((Target { index: found.target, epoch: found.target_epoch }, age.unsigned_abs()))
    }

    /// From now on `noted` is told what the source says. Returns the kinds that were listed.
    pub(super) fn observe(&mut self, noted: &Arc<Noted>) -> Result<Vec<Kind>, Unclear> {
        if !self.sync.listed() {
            return Err(Unclear::NotReady("the source has not listed services and slices yet"));
        }
        self.observers.add(noted);
        Ok(Kind::ALL.into_iter().filter(|kind| self.listed.contains(kind)).collect())
    }

    /// Every difference between the maps and the plans, and between these and `source`.
    pub(super) fn check(
        &self,
        source: &Snapshot,
        noted: &Noted,
        view: &View,
    ) -> Result<Vec<Problem>, Unclear> {
        if !self.sync.pruned() {
            return Err(Unclear::NotReady("the agent has not written all services yet"));
        }
        let news = noted.0.lock().unwrap_or_else(PoisonError::into_inner);
        if news.listed {
            return Err(Unclear::Moved);
        }
        let failed = |error: &dyn std::error::Error| Unclear::Failed(chain(error));
        let maps = self.datapath.maps();
        let actual = read(maps).map_err(|error| failed(&error))?;
        let balancer = self.sync.balancer();
        let mut found = self.sync.refused();
        found.extend(balancer.map_differences(
            &actual,
            self.sync.leaving(),
            &self.uplinks.targets(),
        ));
        let owned = maps.owned.entries().map_err(|error| failed(&error))?;
        found.extend(unlike("owned", &view.owned, &owned.into_iter().collect()));
        let pods: BTreeMap<Addr, ()> = self.endpoints.held().map(|ip| (ip.into(), ())).collect();
        let known = maps.endpoints.entries().map_err(|error| failed(&error))?;
        found.extend(unlike("endpoints", &pods, &known.iter().map(|(a, _)| (*a, ())).collect()));
        let clients = maps.clients.entries().map_err(|error| failed(&error))?;
        found.extend(self.client_differences(&clients));

        let lists = source.lists.as_slice();
        let mut objects = balancer.source_differences(lists);
        objects.extend(self.nodes.differences(lists));
        // An object that the source has, and has not in a form that can be used, is named as that.
        let unusable = |subject: &str| source.problems.iter().any(|p| p.subject == subject);
        let judged = objects
            .into_iter()
            .filter(|(key, problem)| !news.objects.contains(key) && !unusable(&problem.subject));
        found.extend(judged.map(|(_, problem)| problem));
        found.extend(source.problems.iter().map(|problem| Problem {
            subject: problem.subject.clone(),
            message: format!(
                "the source's version cannot be used ({}); what the agent knew before stays",
                problem.message
            ),
        }));
        Ok(found)
    }
}

impl Core {
    /// Socket hooks are to know each pod by its namespace's cookie.
    fn client_differences(&self, clients: &[(u64, Client)]) -> Vec<Problem> {
        let pods = self.endpoints.list().filter(|pod| pod.netns_cookie != 0);
        let missing = pods.filter_map(|pod| {
            let client = clients.iter().find(|(cookie, _)| *cookie == pod.netns_cookie);
            let known = |ip: &IpAddr| {
                let of_family = |client: &Client| if ip.is_ipv6() { client.v6 } else { client.v4 };
                client.is_some_and(|(_, client)| of_family(client) == Addr::from(*ip))
            };
            let unknown: Vec<String> =
                pod.addresses.iter().filter(|ip| !known(ip)).map(ToString::to_string).collect();
            (!unknown.is_empty()).then(|| Problem {
                subject: format!("`clients` {:#x}", pod.netns_cookie),
                message: format!("the map lacks {}", unknown.join(", ")),
            })
        });
        missing.collect()
    }
}

/// The entries of a map of addresses that are not as they should be.
fn unlike<V: PartialEq + std::fmt::Debug>(
    map: &str,
    wanted: &BTreeMap<Addr, V>,
    actual: &BTreeMap<Addr, V>,
) -> Vec<Problem> {
    let all: BTreeSet<&Addr> = wanted.keys().chain(actual.keys()).collect();
    let differing = all.into_iter().filter_map(|addr| {
        let message = match (wanted.get(addr), actual.get(addr)) {
            (wanted, actual) if wanted == actual => return None,
            (Some(wanted), Some(actual)) => {
                format!("the map holds {actual:?} instead of {wanted:?}")
            }
            (Some(_), None) => "the map lacks it".to_owned(),
            (None, _) => "the map has it and the node does not".to_owned(),
        };
        Some(Problem { subject: format!("`{map}` {}", addr.ip()), message })
    });
    differing.collect()
}
