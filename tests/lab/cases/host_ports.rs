// SPDX-License-Identifier: Apache-2.0
//! hostPorts: ports of containers that are ports of the node.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::stage::{SHARED, Stage, eventually, serving, status};
use crate::lab::cluster::node_ip;
use crate::lab::pod::{PORT, Pod};

/// As the API server tells of `pod`, created in that second.
fn object(pod: &Pod, second: u8, ports: &[(u16, &str, Option<&str>)]) -> Value {
    let ports = ports.iter().map(|(port, protocol, host_ip)| {
        let mut port = json!({ "containerPort": PORT, "hostPort": port, "protocol": protocol });
        if let Some(host_ip) = host_ip {
            port["hostIP"] = (*host_ip).into();
        }
        port
    });
    let ips: Vec<Value> = pod.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name, "namespace": "lab", "uid": pod.name,
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        },
        "spec": {
            "nodeName": pod.node,
            "containers": [{ "name": "c", "ports": ports.collect::<Vec<_>>() }],
        },
        "status": { "phase": "Running", "podIPs": ips },
    })
}

fn withdraw(stage: &Stage, name: &str) {
    std::fs::remove_file(stage.lab.manifests().join(format!("{name}.yaml"))).unwrap();
}

/// The upstream conformance test "no conflict between pods with same hostPort but different hostIP
/// and protocol", and clients it does not have.
#[test]
fn one_host_port_is_three_pods_by_host_ip_and_protocol() {
    let stage = &*SHARED;
    let [by_loopback, by_tcp, by_udp] =
        ["hp-loop", "hp-tcp", "hp-udp"].map(|name| serving(&stage.lab, 1, name));
    let own = node_ip(1, false).to_string();
    let objects = [
        object(&by_loopback, 0, &[(4323, "TCP", Some("127.0.0.1"))]),
        object(&by_tcp, 0, &[(4323, "TCP", Some(&own))]),
        object(&by_udp, 0, &[(4323, "UDP", Some(&own))]),
    ];
    stage.lab.publish("hp-three", &objects).unwrap();
    let at = |host: &str| SocketAddr::new(host.parse().unwrap(), 4323);
    let node = &stage.lab.node(1).place;
    stage.ask_until(node, "tcp", at("127.0.0.1"), |outcome| outcome.is_from("hp-loop"));
    for place in [node, &stage.clients[0].place, &stage.clients[1].place, &stage.lab.outside] {
        stage.ask_until(place, "tcp", at(&own), |outcome| outcome.is_from("hp-tcp"));
        stage.ask_until(place, "udp", at(&own), |outcome| outcome.is_from("hp-udp"));
    }
    // A pod's loopback is its own, and the other node has no such port.
    assert!(stage.ask(&stage.clients[0].place, "tcp", at("127.0.0.1")).is_refusal());
    let other = at(&node_ip(2, false).to_string());
    assert!(stage.ask(&stage.lab.outside, "tcp", other).is_refusal());
    withdraw(stage, "hp-three");
}

#[test]
fn a_host_port_follows_its_newest_pod() {
    let stage = &*SHARED;
    let [old, new] = ["hp-old", "hp-new"].map(|name| serving(&stage.lab, 1, name));
    let ports = &[(4324, "TCP", None), (4324, "UDP", None)][..];
    let (before, after) = (object(&old, 1, ports), object(&new, 2, ports));
    let mut done = after.clone();
    done["status"]["phase"] = "Succeeded".into();
    for (objects, owner) in [
        (vec![before.clone()], "hp-old"),
        (vec![before.clone(), after.clone()], "hp-new"),
        (vec![after.clone()], "hp-new"),
        (vec![done, before], "hp-old"),
    ] {
        stage.lab.publish("hp-newest", &objects).unwrap();
        for v6 in [false, true] {
            let to = SocketAddr::new(node_ip(1, v6), 4324);
            for protocol in ["tcp", "udp"] {
                stage.ask_until(&stage.lab.outside, protocol, to, |o| o.is_from(owner));
            }
        }
    }
    withdraw(stage, "hp-newest");
    let to = SocketAddr::new(node_ip(1, false), 4324);
    stage.ask_until(&stage.lab.outside, "tcp", to, |outcome| outcome.is_refusal());
}

#[test]
fn a_host_port_among_the_node_ports_is_refused_and_named() {
    let stage = Stage::raise(1, "");
    stage.lab.publish("hp-range", &[object(&stage.web, 0, &[(30099, "TCP", None)])]).unwrap();
    eventually("`status` names the pod", || {
        let shown = status(stage.lab.node(1));
        let mut problems = shown["problems"].as_array().unwrap().iter();
        problems.any(|problem| {
            let message = problem["message"].as_str().unwrap();
            problem["subject"] == "Pod lab/web" && message.contains("inside `nodePort.range`")
        })
    });
    let to = SocketAddr::new(node_ip(1, false), 30099);
    assert!(stage.ask(&stage.lab.outside, "tcp", to).is_refusal());
}
