// SPDX-License-Identifier: Apache-2.0
//! The lines that `culvert status` always prints.

use std::fmt::Write as _;

use crate::agent::status::{Device, Feature, Problem, Server, Status};

/// Where values start.
pub(super) const COLUMN: usize = 25;

/// The whole short form.
pub(super) fn lines(status: &Status) -> String {
    let mut text = String::new();
    let features = &status.features;
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<COLUMN$}{}", format!("{label}:"), value.trim_end());
    };

    line("Agent", &agent(status));
    for source in &status.sources {
        line("Source", &self::source(source.connected, source.synced, &source.name));
        // One server is the source itself.
        for server in source.servers.iter().filter(|_| source.servers.len() > 1) {
            line("API server", &self::server(server));
        }
    }
    let kpr = effect(&features.kube_proxy_replacement);
    line("KubeProxyReplacement", &format!("{kpr}   [{}]", devices(&status.devices)));
    line(
        "Routing",
        &format!(
            "Network: {}   Host: {}",
            effect(&features.routing),
            features.host_routing.effective
        ),
    );
    line("Host Routing", &effect(&features.host_routing));
    line("Masquerading", &effect(&features.masquerading));
    line("BandwidthManager", &effect(&features.bandwidth_manager));
    line("IPv6 BIG TCP", &effect(&features.ipv6_big_tcp));
    line("NetworkPolicy", &effect(&features.network_policy));
    let sync = &status.sync;
    let counts = format!(
        "{} served, {} frontends, {} backend slots",
        sync.services, sync.frontends, sync.backends
    );
    let pending =
        if sync.pending == 0 { "" } else { &format!(", {} not written yet", sync.pending) };
    line("Services", &format!("{counts}{pending}"));
    line("Pods", &format!("{} on this node", status.endpoints.len()));
    for device in status.devices.iter().filter(|device| !device.problem.is_empty()) {
        line("Problem", &format!("{}: {}", device.name, device.problem));
    }
    let in_sources = status.sources.iter().flat_map(|source| &source.problems);
    for problem in status.problems.iter().chain(in_sources) {
        line("Problem", &self::problem(problem));
    }
    text
}

fn agent(status: &Status) -> String {
    let state = if status.ready {
        "OK".to_owned()
    } else {
        format!("Waiting for {}", status.waiting_for.join(", "))
    };
    format!(
        "{state}   culvert {} on node {}, kernel {}",
        status.version, status.node_name, status.kernel
    )
}

fn source(connected: bool, synced: bool, name: &str) -> String {
    let state = match (connected, synced) {
        (true, true) => "OK",
        (true, false) => "Listing",
        // What was listed stays in force.
        (false, true) => "Away, serving what is known",
        (false, false) => "Away",
    };
    format!("{state}   {name}")
}

fn server(server: &Server) -> String {
    match (&server.problem, server.in_use) {
        (_, true) => format!("In use   {}", server.url),
        (None, false) => format!("Standing by   {}", server.url),
        (Some(problem), false) => format!("Left aside ({problem})   {}", server.url),
    }
}

pub(super) fn problem(problem: &Problem) -> String {
    format!("{}: {}", problem.subject, problem.message)
}

/// `Legacy (requested BPF: why)`, or one word where there is nothing to explain.
pub(super) fn effect(feature: &Feature) -> String {
    let Feature { requested, effective, reason } = feature;
    match (feature.differs(), reason.is_empty()) {
        (true, false) => format!("{effective} (requested {requested}: {reason})"),
        (true, true) => format!("{effective} (requested {requested})"),
        (false, false) => format!("{effective} ({reason})"),
        (false, true) => effective.clone(),
    }
}

/// `eth0    10.0.0.1 fd00::1 (Direct Routing), eth1    …`
pub(super) fn devices(devices: &[Device]) -> String {
    let one = |device: &Device| {
        let addresses: Vec<_> = device.addresses.iter().map(ToString::to_string).collect();
        let direct = if device.direct_routing { " (Direct Routing)" } else { "" };
        format!("{}    {}{direct}", device.name, addresses.join(" "))
    };
    devices.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(super) mod tests;
