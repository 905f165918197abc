// SPDX-License-Identifier: Apache-2.0
//! What no step touches: a service under steady load, and marks that say how far an agent has come.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cases::api::Objects;
use crate::cases::stage::ip;
use crate::lab::manifest;
use crate::lab::node::Node;
use crate::lab::pod::Pod;
use crate::support::apiserver::Resource;

/// Sorts behind all others, so that it is planned last of a batch.
const MARKS: [&str; 2] = ["zz-mark-a", "zz-mark-b"];

pub(super) fn steady() -> manifest::Service {
    manifest::Service {
        name: "steady",
        kind: "LoadBalancer",
        number: 60,
        node_port: Some(30060),
        ingress: vec![ip("192.0.2.60"), ip("2001:db8:c0::60")],
        ..manifest::Service::default()
    }
}

pub(super) fn mark(number: usize) -> manifest::Service {
    manifest::Service {
        name: MARKS[number % 2],
        number: 150 + (number % 100) as u8,
        ..manifest::Service::default()
    }
}

/// How its frontends begin in the tables' words.
pub(super) fn mark_ips(number: usize) -> [String; 2] {
    [false, true].map(|v6| mark(number).cluster_ip(v6).to_string())
}

pub(super) fn add(objects: &mut Objects, service: &manifest::Service, backends: &[&Pod]) {
    for object in service.objects(backends) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let resource = match object["kind"].as_str() {
            Some("Service") => Resource::Services,
            _ => Resource::EndpointSlices,
        };
        objects.insert((resource, name), object);
    }
}

/// Ends the agent, does `meanwhile`, and starts another.
pub(super) fn restart(node: &mut Node, signal: Signal, meanwhile: impl FnOnce(&Node)) {
    let mut agent = node.agent.take().unwrap();
    kill(Pid::from_raw(agent.id() as i32), signal).unwrap();
    agent.wait().unwrap();
    meanwhile(node);
    node.start_agent().unwrap();
}
