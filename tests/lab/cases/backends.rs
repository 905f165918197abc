// SPDX-License-Identifier: Apache-2.0
//! Backends that leave while clients talk to them.

use std::net::SocketAddr;
use std::time::Duration;

use super::stage::{SHARED, ip, serving};
use crate::client::Talk;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::place::Place;
use crate::lab::pod::{PORT, Pod};

#[test]
fn datagram_clients_of_a_removed_backend_recover_and_no_one_else_notices() {
    let stage = &*SHARED;
    let leaves = serving(&stage.lab, 1, "leaves");
    let stays = serving(&stage.lab, 2, "stays");
    let shared = Service {
        name: "shrinks",
        kind: "NodePort",
        number: 50,
        node_port: Some(30050),
        ..Service::default()
    };
    let other = Service { name: "other", number: 51, ..Service::default() };
    stage.serve(&shared, &[&leaves, &stays]);
    stage.serve(&other, &[&leaves]);

    let mut talks = Vec::new();
    let mut bystanders = Vec::new();
    let (pods, nodes, outside) = (&stage.clients, &stage.lab.nodes, &stage.lab.outside);
    for v6 in [false, true] {
        let to = SocketAddr::new(shared.cluster_ip(v6), SERVICE_PORT);
        let inside = [&pods[0].place, &pods[1].place, &nodes[0].place, &nodes[1].place];
        for place in inside {
            talks.extend(["udp", "udp-unconnected"].map(|p| served_by(place, p, to, &leaves)));
        }
        for node in [1, 2] {
            let node_port = SocketAddr::new(node_ip(node, v6), 30050);
            talks.push(served_by(outside, "udp-unconnected", node_port, &leaves));
        }
        let place = &stage.clients[0].place;
        let direct = SocketAddr::new(leaves.ip(v6).unwrap(), PORT);
        let elsewhere = SocketAddr::new(other.cluster_ip(v6), SERVICE_PORT);
        bystanders.push(stage.talk(place, "udp", direct));
        bystanders.push(stage.talk(place, "udp", elsewhere));
    }

    // The pod itself lives on: only the service says that it is gone.
    stage.lab.publish(shared.name, &shared.objects(&[&stays])).unwrap();
    std::thread::sleep(Duration::from_secs(3));

    let reports: Vec<_> = talks.into_iter().map(|talk| talk.finish()).collect();
    let late: Vec<_> =
        reports.iter().filter(|r| r.last != "stays" || r.longest_ms > 1000).collect();
    assert!(late.is_empty(), "{late:#?}");
    let flaws: Vec<_> = bystanders.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
}

/// A client that has found that backend.
fn served_by(from: &Place, protocol: &str, to: SocketAddr, backend: &Pod) -> Talk {
    // Of two it is the wrong one this often once in a million million times.
    for _ in 0..40 {
        let talk = SHARED.talk(from, protocol, to);
        if talk.first == backend.name {
            return talk;
        }
        talk.finish();
    }
    panic!("no {protocol} client of {to} is served by `{}`", backend.name)
}

#[test]
fn a_connection_outlives_the_removal_of_its_backend_from_the_service() {
    let stage = &*SHARED;
    let drains = serving(&stage.lab, 2, "drains");
    let service = Service {
        name: "drained",
        kind: "LoadBalancer",
        number: 52,
        node_port: Some(30052),
        ingress: vec![ip("192.0.2.52"), ip("2001:db8:c0::52")],
        ..Service::default()
    };
    stage.serve(&service, &[&drains]);
    let inside = SocketAddr::new(service.cluster_ip(false), SERVICE_PORT);
    let talk = stage.talk(&stage.clients[0].place, "tcp", inside);
    stage.lab.publish(service.name, &service.objects(&[&stage.web])).unwrap();
    stage.ask_until(&stage.lab.outside, "tcp", SocketAddr::new(ip("192.0.2.52"), 80), |outcome| {
        outcome.is_from("web")
    });
    let report = talk.finish();
    assert_eq!((report.flaw(), &*report.last), (None, "drains"));
}
