// SPDX-License-Identifier: Apache-2.0
//! Agents that come and go under load.
//!
//! `CULVERT_RESTARTS` sets how many in each mode, `CULVERT_MODE` the only one to go through. With
//! `CULVERT_OTHER`, the path of an agent of another build, every restart is an upgrade or a
//! downgrade; `make test-upgrade` builds one whose maps look different, and `make test-upgrade-vm` goes
//! through the mode that this machine's kernel may lack.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::modes::{GENEVE, MODES, Mode, Scene};
use super::stage::{Stage, ip};
use crate::client::Talk;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};

/// In each mode, unless told otherwise: what fits a run of all tests, and has either signal and
/// either node in it.
const RESTARTS: usize = 4;

#[test]
fn restarts_under_load_lose_no_connection_in_any_mode() {
    let only = std::env::var("CULVERT_MODE").unwrap_or_default();
    let modes: Vec<_> = MODES.iter().filter(|mode| mode.name.contains(&only)).collect();
    assert!(!modes.is_empty(), "no mode is called `{only}`");
    lose_no_connection(&modes);
}

#[test]
#[ignore = "needs Geneve devices, which the kernels of tests/vm have"]
fn restarts_under_load_lose_no_connection_by_geneve() {
    lose_no_connection(&[&GENEVE]);
}

fn lose_no_connection(modes: &[&'static Mode]) {
    let told = std::env::var("CULVERT_RESTARTS").ok();
    let restarts = told.map_or(RESTARTS, |text| text.parse().unwrap());
    let other = std::env::var_os("CULVERT_OTHER").map(PathBuf::from);
    // Or the maps are the other build's in the end, and cannot be read here.
    assert!(other.is_none() || restarts.is_multiple_of(4), "{restarts} leaves nodes upgraded");
    for mode in modes {
        let began = Instant::now();
        let mut scene = Scene::raise(mode, "");
        let talks = load(&scene.stage);
        let before = scene.served();
        for round in 0..restarts {
            restart(&mut scene.stage, round, other.as_ref());
        }
        let served = scene.served() - before;
        let flaws: Vec<_> = talks.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
        assert!(flaws.is_empty(), "{}: {flaws:#?}", mode.name);
        let took = began.elapsed();
        println!("{}: {restarts} restarts in {took:.0?}, {served} packets served", mode.name);
        if other.is_some() {
            let said = std::fs::read_to_string(scene.stage.lab.node(1).log_path()).unwrap();
            assert!(said.contains("converted=true"), "the two builds' maps look alike: {said}");
        }
        // Not by another mode.
        assert!(served as usize > 10 * restarts, "{}: {served}", mode.name);
    }
}

/// Every node and either signal in turn.
fn restart(stage: &mut Stage, round: usize, other: Option<&PathBuf>) {
    let own = stage.lab.options.programs.culvert.clone();
    let node = &mut stage.lab.nodes[round % 2];
    let signal = if (round / 2).is_multiple_of(2) { Signal::SIGKILL } else { Signal::SIGTERM };
    if let Some(other) = other {
        let upgrade = node.programs.culvert == *other;
        node.programs.culvert = if upgrade { own } else { other.clone() };
    }
    let agent = node.agent.as_mut().unwrap();
    println!("{round}: {signal} to {}, then {}", node.name, node.programs.culvert.display());
    kill(Pid::from_raw(agent.id() as i32), signal).unwrap();
    agent.wait().unwrap();
    node.start_agent().unwrap();
    node.wait_ready().unwrap();
}

/// Connections of every kind, to backends on both nodes.
fn load(stage: &Stage) -> Vec<Talk> {
    let service = Service {
        name: "loaded",
        kind: "LoadBalancer",
        number: 60,
        node_port: Some(30060),
        ingress: vec![ip("192.0.2.60"), ip("2001:db8:c0::60")],
        ..Service::default()
    };
    stage.serve(&service, &[&stage.web, &stage.far]);
    let mut talks = Vec::new();
    for v6 in [false, true] {
        let cluster = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
        let balancer = SocketAddr::new(service.ingress[usize::from(v6)], SERVICE_PORT);
        let node_port = SocketAddr::new(node_ip(2, v6), 30060);
        for protocol in ["tcp", "tcp-new", "udp"] {
            talks.push(stage.talk(&stage.clients[0].place, protocol, cluster));
            talks.push(stage.talk(&stage.lab.node(2).place, protocol, cluster));
            talks.push(stage.talk(&stage.lab.outside, protocol, balancer));
            // So that one of them surely leads to the other node.
            for _ in 0..2 {
                talks.push(stage.talk(&stage.lab.outside, protocol, node_port));
            }
        }
    }
    talks
}
