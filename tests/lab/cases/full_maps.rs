// SPDX-License-Identifier: Apache-2.0
//! More services than the maps have room for, as an operator sees it.

use std::net::SocketAddr;

use super::lifecycle::page;
use super::stage::{Stage, eventually};
use crate::lab::manifest::{SERVICE_PORT, Service};

/// Two protocols in two families each.
const FIRST: Service = Service::plain("first", 80);
const SECOND: Service = Service::plain("second", 81);
const THIRD: Service = Service::plain("third", 82);

#[test]
fn a_full_map_is_told_with_who_waits_and_heals_when_room_comes() {
    let stage = Stage::raise(1, "healthzTimeout: 2s\nbpf:\n  servicesMax: 8\n");
    let (node, client) = (stage.lab.node(1), &stage.clients[0].place);
    let to = |service: &Service| SocketAddr::new(service.cluster_ip(true), SERVICE_PORT);
    let status = || node.shown(&["status"]).unwrap();
    for service in [&FIRST, &SECOND] {
        stage.serve(service, &[&stage.web]);
        stage.ask_until(client, "tcp", to(service), |outcome| outcome.is_from("web"));
    }
    let third = THIRD.objects(&[&stage.web]);
    stage.lab.publish(THIRD.name, &third).unwrap();
    let told = |text: &str| {
        let line = text.lines().find(|line| line.contains("map `services` is full"));
        line.is_some_and(|line| line.contains("lab/third"))
    };
    eventually("`status` names the map and who waits for it", || told(&status()));
    assert_eq!(node.metric("culvert_sync_pending"), 1.0);
    let errors =
        "culvert_map_operations_total{map=\"services\",operation=\"update\",result=\"error\"}";
    assert!(node.metric(errors) > 0.0);
    for service in [&FIRST, &SECOND] {
        assert!(stage.ask(client, "tcp", to(service)).is_from("web"), "{}", service.name);
    }
    // All nodes have the same room: load balancers must not take out each of them for it.
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_secs(1));
        for path in ["/healthz", "/livez", "/readyz"] {
            let (code, body) = page(node, path);
            assert_eq!(code, 200, "{path}: {body}");
        }
    }
    drop(node.add_pod("later").unwrap());

    std::fs::remove_file(stage.lab.manifests().join("first.yaml")).unwrap();
    stage.ask_until(client, "tcp", to(&THIRD), |outcome| outcome.is_from("web"));
    eventually("`status` has nothing more to say", || !status().contains("is full"));
    eventually("nothing is pending", || node.metric("culvert_sync_pending") == 0.0);
    assert!(stage.ask(client, "tcp", to(&SECOND)).is_from("web"));
}
