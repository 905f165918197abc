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

/// Addresses that marks take in turn.
pub(super) const MARKS: usize = 100;

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

/// A service that was never there before, so that who answers at its address says that the agent has
/// heard all of this Service and of its slices. It sorts behind all others: a watch tells of it last,
/// and it is planned last of a batch.
pub(super) fn mark(number: usize) -> manifest::Service {
    manifest::Service {
        // A few bytes each, until the test ends.
        name: format!("zz-mark-{number:06}").leak(),
        number: mark_address(number),
        ..manifest::Service::default()
    }
}

fn mark_address(number: usize) -> u8 {
    (150 + number % MARKS) as u8
}

/// How its frontends begin in the tables' words.
pub(super) fn mark_ips(number: usize) -> [String; 2] {
    let mark = manifest::Service::plain("", mark_address(number));
    [false, true].map(|v6| mark.cluster_ip(v6).to_string())
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
