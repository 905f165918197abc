// SPDX-License-Identifier: Apache-2.0
//! Floods of connections that nobody means.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use super::lifecycle::page;
use super::modes::{MODES, Scene};
use super::stage::{Stage, eventually, serving};
use crate::client::{Report, Talk};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::Service;
use crate::lab::node::Node;

const NODE_PORT: u16 = 30070;
/// Entries of the small table for half-open flows, two a connection.
const HALF_OPEN: u64 = 2048;

/// Of connections that begin in a flood, those that get through. Half-open, they have about as long
/// as the table takes to turn over.
const NEW_PERCENT: u64 = 90;

#[test]
fn a_flood_turns_half_open_flows_over_and_moves_no_established_one() {
    for name in ["SNAT in tc", "SNAT in XDP", "DSR in XDP"] {
        let mode = MODES.iter().find(|mode| mode.name == name).unwrap();
        withstands(&Scene::raise(mode, &format!("bpf:\n  flowsNewMax: {HALF_OPEN}\n")), name);
    }
}

fn withstands(scene: &Scene, mode: &str) {
    let stage = &scene.stage;
    stage.serve(&service(), &[&stage.far]);
    let node = stage.lab.node(1);
    assert_eq!(metric(node, "culvert_map_max_entries{map=\"flows_new\"}"), HALF_OPEN);
    let (mut established, datagrams) = (talks(stage, "tcp"), talks(stage, "udp"));
    // What is used seldom would be the first to go.
    established.extend(talks(stage, "tcp-quiet"));
    // Else a flow that got lost would find the same way again: the choice follows from its ports.
    let next = serving(&stage.lab, 2, "next");
    stage.serve(&service(), &[&next]);

    let floods = [false, true].map(|v6| flood(stage, v6));
    eventually("the metrics show the pressure", || {
        metric(node, "culvert_map_entries{map=\"flows_new\"}") > HALF_OPEN / 2
    });
    // Those that begin while the table turns over, again until there are enough to judge by.
    let mut new: Vec<Report> = Vec::new();
    eventually("enough connections began in the flood", || {
        let talks = talks(stage, "tcp-new");
        let before = scene.served();
        let turned = || scene.served() > before + 20 * HALF_OPEN;
        eventually("the table has turned over many times", turned);
        add(&mut new, talks.into_iter().map(Talk::finish));
        new.iter().all(|report| report.answered > 10)
    });

    let sent: u64 = floods.into_iter().map(stop).sum();
    let through: Vec<_> = new.iter().map(|report| (report.answered, report.sent)).collect();
    println!("{mode}: {sent} SYNs, new connections that got through: {through:?}");
    // Two entries each: twenty times what fits.
    assert!(sent > 10 * HALF_OPEN);
    for report in new {
        assert!(report.answered > 10, "{mode}: {report:?}");
        assert!(report.answered * 100 >= report.sent * NEW_PERCENT, "{mode}: {report:?}");
    }
    intact(established, datagrams);
}

#[test]
fn a_flood_that_takes_all_ports_towards_a_backend_moves_no_established_flow() {
    let stage = attacked("bpf:\n  snatPortRange: 40000-40499\nflowTimeouts:\n  tcpSyn: 2s\n");
    let node = stage.lab.node(1);
    let (established, datagrams) = (talks(&stage, "tcp"), talks(&stage, "udp"));
    let floods = [false, true].map(|v6| flood(&stage, v6));
    let refused = || metric(node, EXHAUSTED);
    eventually("there are no ports", || refused() > 1000);
    eventually("and there still are none", || refused() > 50_000);
    let sent: u64 = floods.into_iter().map(stop).sum();
    println!("{sent} SYNs, {} without a port", refused());
    intact(established, datagrams);
    for v6 in [false, true] {
        let to = SocketAddr::new(node_ip(1, v6), NODE_PORT);
        stage.ask_until(&stage.lab.outside, "tcp", to, |outcome| outcome.is_from("far"));
    }
}

const EXHAUSTED: &str = "culvert_dropped_packets_total";

/// The only backend is behind the second node: the first one, which is asked, lends its address.
fn attacked(config: &str) -> Stage {
    let stage = Stage::raise(2, config);
    stage.serve(&service(), &[&stage.far]);
    stage
}

fn service() -> Service {
    Service {
        name: "attacked",
        kind: "NodePort",
        number: 70,
        node_port: Some(NODE_PORT),
        ..Service::default()
    }
}

/// Three clients a family, outside the cluster.
fn talks(stage: &Stage, protocol: &str) -> Vec<Talk> {
    let families = [false, true].into_iter().flat_map(|v6| [v6; 3]);
    families
        .map(|v6| {
            let to = SocketAddr::new(node_ip(1, v6), NODE_PORT);
            stage.talk(&stage.lab.outside, protocol, to)
        })
        .collect()
}

/// Adds each client's latest report to what it said before.
fn add(all: &mut Vec<Report>, latest: impl Iterator<Item = Report>) {
    if all.is_empty() {
        all.extend(latest);
        return;
    }
    for (sum, report) in all.iter_mut().zip(latest) {
        sum.sent += report.sent;
        sum.answered += report.answered;
        sum.broken += report.broken;
        sum.errors.extend(report.errors);
    }
}

/// Datagrams may get lost in a full queue, and are another backend's when theirs is listed no more;
/// streams may not end.
fn intact(established: Vec<Talk>, datagrams: Vec<Talk>) {
    let flaws: Vec<_> = established.into_iter().filter_map(|t| t.finish().flaw()).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
    let reports: Vec<_> = datagrams.into_iter().map(Talk::finish).collect();
    let stuck: Vec<_> =
        reports.iter().filter(|r| r.broken > 0 || r.answered < r.sent / 2).collect();
    assert!(stuck.is_empty(), "{stuck:#?}");
}

fn flood(stage: &Stage, v6: bool) -> Child {
    let outside = &stage.lab.outside;
    let to = SocketAddr::new(node_ip(1, v6), NODE_PORT);
    let mut command = outside.command(stage.program());
    command.args(["flood", &to.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    outside.spawn(&mut command).unwrap()
}

/// How many packets it sent.
fn stop(flood: Child) -> u64 {
    // Its standard input ends with the wait.
    let output = flood.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Sum of the samples whose name begins so.
fn metric(node: &Node, name: &str) -> u64 {
    let (_, metrics) = page(node, "/metrics");
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let lines = lines.filter(|line| name != EXHAUSTED || line.contains("snat_ports_exhausted"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}
