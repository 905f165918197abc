// SPDX-License-Identifier: Apache-2.0
//! Fills the status that the servers and `culvert status` show.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use tokio::sync::watch;

use super::acceleration::Acceleration;
use super::background::FlowCounts;
use super::dsr::Dsr;
use super::endpoints::Endpoints;
use super::status::{self, Status};
use super::uplinks::Attached;
use crate::abi::{OWNED_NODEPORT, ServiceKind};
use crate::config::NodePortAddresses;
use crate::datapath::Maps;
use crate::datapath::netlink::View;
use crate::lb::{Balancer, Totals};
use crate::model::{self, Problem, SourceStatus};
use crate::serve::keeper;

/// What is fixed from the start, and where the status goes.
#[derive(Debug)]
pub struct Report {
    base: Status,
    sender: watch::Sender<Arc<Status>>,
    flows: Arc<FlowCounts>,
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
    pub acceleration: &'a Acceleration,
    pub dsr: &'a Dsr,
    pub pod_cidrs: &'a [IpNet],
    pub endpoints: &'a Endpoints,
    pub totals: Totals,
    pub targets: u64,
    /// Entries of `maglev` that tables take.
    pub tables: u64,
    /// Entries of `vips`.
    pub vips: u64,
    /// Entries of `nodes`; None while the nodes are not known.
    pub nodes: Option<u64>,
    pub pending: u64,
    pub mechanism: &'static str,
    pub node_ips: &'a [IpAddr],
    pub maps: &'a Maps,
}

impl Report {
    pub fn new(base: Status, sender: watch::Sender<Arc<Status>>, flows: Arc<FlowCounts>) -> Self {
        Self { base, sender, flows, failures: 0, last_success: 0, last_duration: Duration::ZERO }
    }

    pub fn features(&self) -> &status::Features {
        &self.base.features
    }

    /// Everything that was due is written; the oldest of it had waited for `took`.
    pub fn synced(&mut self, took: Duration) {
        self.last_success = unix_seconds();
        self.last_duration = took;
    }

    pub fn publish(&self, now: Now<'_>) {
        let mut status = self.base.clone();
        status.maps = self.fills(&now);
        status.ready = now.waiting.is_empty();
        status.waiting_for = now.waiting;
        status.problems.extend(now.problems.into_iter().map(problem));
        status.sources = vec![source(now.source, now.synced)];
        status.devices = devices(now.view, now.attached, now.mechanism, now.node_ips);
        for device in &mut status.devices {
            let (word, problem) = now.acceleration.of_device(&device.name);
            (device.acceleration, device.acceleration_problem) = (word.into(), problem.into());
            now.dsr.describe(device, now.totals.dsr);
        }
        status.features.xdp_acceleration = now.acceleration.feature();
        (status.features.mode, status.features.dsr_dispatch) = now.dsr.features(now.totals.dsr);
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
            services: now.totals.services.into(),
            frontends: frontends(&now.totals),
            frontend_types: by_type(&now.totals),
            backends: now.totals.backends.into(),
            backends_terminating: now.totals.backends_terminating.into(),
            backends_not_ready: now.totals.backends_not_ready.into(),
            no_local_internal: now.totals.no_local_internal.map(u64::from),
            no_local_external: now.totals.no_local_external.map(u64::from),
            pending: now.pending,
            last_success: self.last_success,
            last_duration_micros: self.last_duration.as_micros() as u64,
            failures: self.failures,
        };
        self.sender.send_replace(Arc::new(status));
    }

    /// How full the maps are, from what is known without reading them.
    fn fills(&self, now: &Now<'_>) -> Vec<status::MapFill> {
        let addresses = now.endpoints.list().map(|pod| pod.addresses.len() as u64).sum();
        let clients = now.endpoints.list().filter(|pod| pod.netns_cookie != 0).count() as u64;
        let [xdp_devices, xdp_vlans] = now.acceleration.written();
        let maps = now.maps;
        let nodes = now.nodes.map(|entries| ("nodes", entries, maps.nodes.max_entries()));
        let others = [
            ("services", frontends(&now.totals), maps.services.max_entries()),
            ("backends", now.totals.backends.into(), maps.backends.max_entries()),
            ("target_state", now.targets, maps.target_state.max_entries()),
            ("maglev", now.tables, maps.maglev.max_entries()),
            ("flows", self.flows.flows.load(Ordering::Relaxed), maps.flows.max_entries()),
            (
                "flows_new",
                self.flows.half_open.load(Ordering::Relaxed),
                maps.flows_new.max_entries(),
            ),
            ("endpoints", addresses, maps.endpoints.max_entries()),
            ("owned", now.view.owned.len() as u64, maps.owned.max_entries()),
            ("uplinks", now.view.uplinks.len() as u64, maps.uplinks.max_entries()),
            ("vips", now.vips, maps.vips.max_entries()),
            ("source_ranges", now.totals.source_ranges.into(), maps.source_ranges.max_entries()),
            (
                "affinities",
                self.flows.affinities.load(Ordering::Relaxed),
                maps.affinities.max_entries(),
            ),
            ("clients", clients, maps.clients.max_entries()),
            ("xdp_devices", xdp_devices, maps.xdp_devices.max_entries()),
            ("xdp_vlans", xdp_vlans, maps.xdp_vlans.max_entries()),
        ];
        let fill = |(name, entries, max): (&str, u64, u32)| status::MapFill {
            name: name.to_owned(),
            entries,
            max_entries: max.into(),
        };
        others.into_iter().chain(nodes).map(fill).collect()
    }
}

fn frontends(totals: &Totals) -> u64 {
    totals.frontends.iter().copied().map(u64::from).sum()
}

/// Every type is there, also without a frontend.
fn by_type(totals: &Totals) -> BTreeMap<String, u64> {
    let types = (1..).zip(totals.frontends).filter_map(|(number, count)| {
        Some((ServiceKind::from_number(number)?.name().to_owned(), count.into()))
    });
    types.collect()
}

/// What the keeper of health check ports is to answer. `addresses`: `nodePort.addresses`.
pub(super) fn checked(
    balancer: &Balancer,
    addresses: &NodePortAddresses,
    view: &View,
) -> keeper::State {
    let owned = view.owned.iter().filter(|(_, owned)| owned.flags & OWNED_NODEPORT != 0);
    let services = balancer.health_checks().into_iter().map(|check| keeper::Checked {
        namespace: check.service.namespace.to_string(),
        name: check.service.name.to_string(),
        port: check.port,
        local_endpoints: check.local_endpoints,
    });
    keeper::State {
        // Judged anew whenever the keeper is told.
        healthy: true,
        // Any address will do where no choice was made, also one that the node gets later.
        addresses: match addresses {
            NodePortAddresses::Nets(nets) if nets.is_empty() => Vec::new(),
            _ => owned.map(|(address, _)| address.ip()).collect(),
        },
        services: services.collect(),
    }
}

/// Other nodes are reached through the device that has the address they know; where no Node says
/// so, through the only device.
fn devices(
    view: &View,
    attached: &BTreeMap<String, Attached>,
    mechanism: &str,
    node_ips: &[IpAddr],
) -> Vec<status::Device> {
    let direct = |ifindex: u32| {
        let mut own = view.addresses.iter().filter(|(index, _)| *index == ifindex);
        own.any(|(_, net)| node_ips.contains(&net.addr()))
            || (node_ips.is_empty() && view.uplinks.len() == 1)
    };
    let device = |(ifindex, uplink): (&u32, &crate::datapath::netlink::Uplink)| {
        let state = attached.get(&uplink.name).filter(|state| state.ifindex == *ifindex);
        let problem = state.and_then(|state| state.problem.clone());
        let on = state.is_some() && problem.is_none();
        let addresses = view.addresses.iter().filter(|(index, _)| index == ifindex);
        status::Device {
            name: uplink.name.clone(),
            ifindex: *ifindex,
            addresses: addresses.map(|(_, net)| net.addr()).collect(),
            direct_routing: direct(*ifindex),
            attached: if on { mechanism.to_owned() } else { String::new() },
            problem: problem.unwrap_or_default(),
            acceleration: String::new(),
            acceleration_problem: String::new(),
            mtu: uplink.mtu,
            dsr_mtu: None,
        }
    };
    view.uplinks.iter().map(device).collect()
}

fn source(source: &SourceStatus, synced: bool) -> status::Source {
    let server = |server: &model::Server| status::Server {
        url: server.url.clone(),
        in_use: server.in_use,
        failures: server.failures,
        problem: server.problem.clone(),
    };
    let trouble = |((kind, reason), count): (&(model::Kind, &str), &u64)| status::Trouble {
        kind: kind.name().to_owned(),
        reason: (*reason).to_owned(),
        count: *count,
    };
    status::Source {
        name: source.name.clone(),
        connected: source.connected,
        synced,
        problems: source.problems.iter().cloned().map(problem).collect(),
        servers: source.servers.iter().map(server).collect(),
        troubles: source.troubles.iter().map(trouble).collect(),
    }
}

fn problem(problem: Problem) -> status::Problem {
    status::Problem { subject: problem.subject, message: problem.message }
}

pub(super) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
