// SPDX-License-Identifier: Apache-2.0
//! Fills the status that the servers and `culvert status` show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use tokio::sync::watch;

use super::endpoints::Endpoints;
use super::status::{self, Status};
use super::uplinks::Attached;
use crate::datapath::netlink::View;
use crate::lb::Totals;
use crate::model::{Problem, SourceStatus};

/// What is fixed from the start, and where the status goes.
#[derive(Debug)]
pub struct Report {
    base: Status,
    sender: watch::Sender<Arc<Status>>,
    /// Writes that were refused so far.
    pub failures: u64,
    last_success: i64,
    last_duration: Duration,
}

/// The moment to report on.
#[derive(Debug)]
pub struct Now<'a> {
    pub waiting: Vec<String>,
    pub problems: Vec<Problem>,
    pub source: &'a SourceStatus,
    pub synced: bool,
    pub view: &'a View,
    pub attached: &'a BTreeMap<String, Attached>,
    pub pod_cidrs: &'a [IpNet],
    pub endpoints: &'a Endpoints,
    pub totals: Totals,
    pub pending: u64,
    pub mechanism: &'static str,
}

impl Report {
    pub fn new(base: Status, sender: watch::Sender<Arc<Status>>) -> Self {
        Self { base, sender, failures: 0, last_success: 0, last_duration: Duration::ZERO }
    }

    /// Everything that was due is written; the oldest of it had waited for `took`.
    pub fn synced(&mut self, took: Duration) {
        self.last_success = unix_seconds();
        self.last_duration = took;
    }

    pub fn publish(&self, now: Now<'_>) {
        let mut status = self.base.clone();
        status.ready = now.waiting.is_empty();
        status.waiting_for = now.waiting;
        status.problems.extend(now.problems.into_iter().map(problem));
        status.sources = vec![status::Source {
            name: now.source.name.clone(),
            connected: now.source.connected,
            synced: now.synced,
            problems: now.source.problems.iter().cloned().map(problem).collect(),
        }];
        status.devices = devices(now.view, now.attached, now.mechanism);
        status.pod_cidrs = now.pod_cidrs.iter().map(IpNet::to_string).collect();
        status.endpoints = now
            .endpoints
            .list()
            .map(|pod| status::Endpoint {
                pod: pod.pod.clone(),
                container_id: pod.attachment.container_id.clone(),
                device: pod.attachment.host_ifname(),
                addresses: pod.addresses.clone(),
            })
            .collect();
        status.sync = status::Sync {
            services: now.totals.services,
            frontends: now.totals.frontends.iter().sum(),
            backends: now.totals.backends,
            pending: now.pending,
            last_success: self.last_success,
            last_duration_micros: self.last_duration.as_micros() as u64,
            failures: self.failures,
        };
        self.sender.send_replace(Arc::new(status));
    }
}

fn devices(
    view: &View,
    attached: &BTreeMap<String, Attached>,
    mechanism: &str,
) -> Vec<status::Device> {
    let device = |(ifindex, uplink): (&u32, &crate::datapath::netlink::Uplink)| {
        let state = attached.get(&uplink.name).filter(|state| state.ifindex == *ifindex);
        let problem = state.and_then(|state| state.problem.clone());
        let on = state.is_some() && problem.is_none();
        let addresses = view.addresses.iter().filter(|(index, _)| index == ifindex);
        status::Device {
            name: uplink.name.clone(),
            ifindex: *ifindex,
            addresses: addresses.map(|(_, net)| net.addr()).collect(),
            direct_routing: false,
            attached: if on { mechanism.to_owned() } else { String::new() },
            problem: problem.unwrap_or_default(),
        }
    };
    view.uplinks.iter().map(device).collect()
}

fn problem(problem: Problem) -> status::Problem {
    status::Problem { subject: problem.subject, message: problem.message }
}

pub(super) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
