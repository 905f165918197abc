// SPDX-License-Identifier: Apache-2.0
//! The cluster that tests share, and what they all do with one.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Outcome, Talk, ask};
use crate::lab::cluster::{Lab, Options, Programs};
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::node::Node;
use crate::lab::place::Place;
use crate::lab::pod::Pod;

/// For what the agents do with a change. Only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// So that clients in the cluster are served on addresses that no node has, too.
pub const EXTERNAL_IPS_INSIDE: &str = "externalIPs:\n  servedInside: true\n";

pub static SHARED: LazyLock<Stage> = LazyLock::new(|| Stage::raise(2, EXTERNAL_IPS_INSIDE));

/// A lab with two servers and a client pod on each node.
pub struct Stage {
    pub lab: Lab,
    /// Serves on the first node.
    pub web: Pod,
    /// Serves on the second node, or on the first when there is only one.
    pub far: Pod,
    /// One a node.
    pub clients: Vec<Pod>,
}

impl Stage {
    pub fn raise(nodes: u8, config: &str) -> Self {
        let programs = Programs {
            culvert: env!("CARGO_BIN_EXE_culvert").into(),
            culvert_cni: env!("CARGO_BIN_EXE_culvert-cni").into(),
            culvert_lab: env!("CARGO_BIN_EXE_culvert-lab").into(),
        };
        let lab = Lab::raise(Options { programs, nodes, config: config.to_owned() }).unwrap();
        let web = serving(&lab, 1, "web");
        let far = serving(&lab, nodes.into(), "far");
        let clients = lab.nodes.iter().map(|node| node.add_pod("client").unwrap()).collect();
        Self { lab, web, far, clients }
    }

    pub fn program(&self) -> &Path {
        &self.lab.options.programs.culvert_lab
    }

    pub fn ask(&self, from: &Place, protocol: &str, to: SocketAddr) -> Outcome {
        ask(self.program(), from, protocol, to, 0)
    }

    /// Asks until the answer is as wanted, and returns the last one.
    pub fn ask_until(
        &self,
        from: &Place,
        protocol: &str,
        to: SocketAddr,
        wanted: impl Fn(&Outcome) -> bool,
    ) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = self.ask(from, protocol, to);
            if wanted(&outcome) {
                return outcome;
            }
            assert!(Instant::now() < deadline, "{protocol} to {to}: {outcome:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn talk(&self, from: &Place, protocol: &str, to: SocketAddr) -> Talk {
        Talk::start(self.program(), from, protocol, to)
    }

    /// Publishes and waits until every node serves it.
    pub fn serve(&self, service: &Service, backends: &[&Pod]) {
        self.lab.publish(service.name, &service.objects(backends)).unwrap();
        for node in &self.lab.nodes {
            for v6 in [false, true] {
                let to = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
                let known = |outcome: &Outcome| match outcome {
                    Outcome::Answer { name, .. } => backends.iter().any(|pod| pod.name == *name),
                    Outcome::Error { .. } => backends.is_empty() && outcome.is_refusal(),
                };
                self.ask_until(&node.place, "tcp", to, known);
            }
        }
    }

    /// Directory of the maps that a node's agent has pinned.
    pub fn bpf_root(&self, node: usize) -> PathBuf {
        let config = self.lab.node(node).dir.join("culvert.yaml");
        let text = std::fs::read_to_string(config).unwrap();
        text.lines().find_map(|line| line.strip_prefix("bpfRoot: ")).unwrap().into()
    }
}

/// A pod with a server in it.
pub fn serving(lab: &Lab, node: usize, name: &str) -> Pod {
    let mut pod = lab.node(node).add_pod(name).unwrap();
    pod.serve(lab.node(node)).unwrap();
    pod
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the agent of a node tells of itself.
pub fn status(node: &Node) -> Value {
    let text = node.culvert(&["status", "-o", "json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Tries until it is so.
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(until(is_so), "{what}");
}

/// Whether it is so in the end.
pub fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}
