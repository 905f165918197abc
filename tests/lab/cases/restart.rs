// SPDX-License-Identifier: Apache-2.0
//! Agents that come and go under load.

use std::net::SocketAddr;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stage::{Stage, ip};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};

#[test]
fn twenty_restarts_under_load_lose_not_one_connection() {
    let mut stage = Stage::raise(2, "");
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
        }
        for protocol in ["tcp", "tcp-new"] {
            talks.push(stage.talk(&stage.lab.outside, protocol, balancer));
            talks.push(stage.talk(&stage.lab.outside, protocol, node_port));
        }
    }
    for round in 0..20 {
        let node = &mut stage.lab.nodes[round % 2];
        // Four rounds have one of each on either node.
        let signal = if round / 2 % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM };
        let agent = node.agent.as_mut().unwrap();
        kill(Pid::from_raw(agent.id() as i32), signal).unwrap();
        agent.wait().unwrap();
        node.start_agent().unwrap();
        node.wait_ready().unwrap();
    }
    let flaws: Vec<_> = talks.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
}
