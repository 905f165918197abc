// SPDX-License-Identifier: Apache-2.0
//! What a service promises, on wires: affinity, source ranges, unknown ports, labels of the node.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::stage::{SHARED, Stage, ip};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::place::Place;
use crate::lab::pod::Pod;

/// A LoadBalancer at 192.0.2.N, which leads to the first node.
const fn balancer(name: &'static str, number: u8) -> Service {
    Service {
        name,
        kind: "LoadBalancer",
        number,
        node_port: Some(30000 + number as u16),
        external_ips: Vec::new(),
        ingress: Vec::new(),
        annotations: Vec::new(),
    }
}

fn publish(stage: &Stage, service: &Service, backends: &[&Pod], edit: impl FnOnce(&mut [Value])) {
    let v6 = format!("2001:db8:c0::{}", service.number);
    let ingress = vec![ip(&format!("192.0.2.{}", service.number)), ip(&v6)];
    let mut objects = Service { ingress, ..service.clone() }.objects(backends);
    edit(&mut objects);
    stage.lab.publish(service.name, &objects).unwrap();
    // Whoever asks a node too early is sent on to the fabric, and stays there.
    for node in &stage.lab.nodes {
        let to = SocketAddr::new(service.cluster_ip(true), SERVICE_PORT);
        stage.ask_until(&node.place, "tcp", to, |o| matches!(o, Outcome::Answer { .. }));
    }
}

fn vip(service: &Service, v6: bool, port: u16) -> SocketAddr {
    let n = service.number;
    let text = if v6 { format!("2001:db8:c0::{n}") } else { format!("192.0.2.{n}") };
    SocketAddr::new(ip(&text), port)
}

/// Who answers ten new connections.
fn ten(stage: &Stage, from: &Place, to: SocketAddr) -> Vec<String> {
    let answers = (0..10).map(|_| match stage.ask(from, "tcp", to) {
        Outcome::Answer { name, .. } => name,
        Outcome::Error { error } => error,
    });
    let mut names: Vec<String> = answers.collect();
    names.dedup();
    names
}

#[test]
fn a_client_keeps_its_backend_until_that_leaves() {
    let stage = &*SHARED;
    let service = balancer("sticky", 60);
    let sticky = |backends: &[&Pod]| {
        publish(stage, &service, backends, |objects| {
            objects[0]["spec"]["sessionAffinity"] = "ClientIP".into();
        });
    };
    sticky(&[&stage.web, &stage.far]);
    let mut had = Vec::new();
    for place in [&stage.lab.outside, &stage.clients[0].place, &stage.lab.node(1).place] {
        for v6 in [false, true] {
            let to = vip(&service, v6, SERVICE_PORT);
            stage.ask_until(place, "tcp", to, |o| matches!(o, Outcome::Answer { .. }));
            let names = ten(stage, place, to);
            assert_eq!(names.len(), 1, "{to}: {names:?}");
            had.push((place, to, names[0].clone()));
        }
    }
    for (gone, stays) in [(&stage.web, &stage.far), (&stage.far, &stage.web)] {
        sticky(&[stays]);
        for (place, to, _) in had.iter().filter(|(.., name)| *name == gone.name) {
            stage.ask_until(place, "tcp", *to, |outcome| outcome.is_from(&stays.name));
            assert_eq!(ten(stage, place, *to), std::slice::from_ref(&stays.name));
        }
        sticky(&[&stage.web, &stage.far]);
    }
}

#[test]
fn source_ranges_say_who_is_served_and_deny_turns_them_round() {
    let stage = &*SHARED;
    let (allow, deny) = (balancer("allow", 61), balancer("deny", 62));
    for service in [&allow, &deny] {
        publish(stage, service, &[&stage.web], |objects| {
            let ranges = json!([
                format!("{}/32", node_ip(100, false)),
                format!("{}/128", node_ip(100, true)),
                format!("{}/32", stage.clients[1].ip(false).unwrap()),
                format!("{}/128", stage.clients[1].ip(true).unwrap()),
            ]);
            objects[0]["spec"]["loadBalancerSourceRanges"] = ranges;
            objects[0]["metadata"]["annotations"] =
                json!({ "service.culvert.io/src-ranges-policy": service.name });
        });
    }
    for v6 in [false, true] {
        for service in [&allow, &deny] {
            // The node itself is always served.
            for node in &stage.lab.nodes {
                let to = vip(service, v6, SERVICE_PORT);
                stage.ask_until(&node.place, "tcp", to, |outcome| outcome.is_from("web"));
            }
            let listed = [&stage.lab.outside, &stage.clients[1].place];
            for (place, served) in listed
                .map(|place| (place, service.name == "allow"))
                .into_iter()
                .chain([(&stage.clients[0].place, service.name == "deny")])
            {
                for protocol in ["tcp", "udp"] {
                    let to = vip(service, v6, SERVICE_PORT);
                    let outcome = stage.ask(place, protocol, to);
                    assert_eq!(outcome.is_from("web"), served, "{protocol} {to}: {outcome:?}");
                }
            }
            // The ranges are the load balancer's; NodePorts and cluster IPs are open.
            let node_port = SocketAddr::new(node_ip(2, v6), service.node_port.unwrap());
            assert!(stage.ask(&stage.lab.outside, "tcp", node_port).is_from("web"));
            let cluster = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
            assert!(stage.ask(&stage.clients[0].place, "tcp", cluster).is_from("web"));
        }
    }
}

#[test]
fn an_unknown_port_of_a_service_is_refused_at_once() {
    let stage = &*SHARED;
    let service = balancer("ports", 63);
    publish(stage, &service, &[&stage.web], |_| ());
    for v6 in [false, true] {
        let known = vip(&service, v6, SERVICE_PORT);
        stage.ask_until(&stage.lab.outside, "tcp", known, |outcome| outcome.is_from("web"));
        let cluster = SocketAddr::new(service.cluster_ip(v6), 81);
        let inside = [&stage.clients[0].place, &stage.lab.node(1).place];
        let asked = inside.map(|place| (place, cluster)).into_iter();
        for (place, to) in asked.chain([(&stage.lab.outside, vip(&service, v6, 81))]) {
            for protocol in ["tcp", "udp"] {
                let outcome = stage.ask(place, protocol, to);
                assert!(outcome.is_refusal(), "{protocol} to {to}: {outcome:?}");
            }
        }
    }
}

#[test]
fn ping_gets_an_answer_from_a_service_or_is_refused() {
    let stage = &*SHARED;
    let service = balancer("pinged", 68);
    publish(stage, &service, &[&stage.web], |_| ());
    let (pod, node, outside) =
        (&stage.clients[0].place, &stage.lab.node(1).place, &stage.lab.outside);
    for v6 in [false, true] {
        let cluster = service.cluster_ip(v6);
        let balancer = vip(&service, v6, SERVICE_PORT);
        for (place, to) in [(pod, SocketAddr::new(cluster, SERVICE_PORT)), (outside, balancer)] {
            stage.ask_until(place, "tcp", to, |outcome| outcome.is_from("web"));
        }
        let ping = |place: &Place, to: IpAddr| {
            let mut ping = place.command("ping");
            let output = place.output(ping.args(["-n", "-c1", "-W3", &to.to_string()])).unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(said).unwrap())
        };
        for (place, to) in [(pod, cluster), (outside, balancer.ip())] {
            let (answered, said) = ping(place, to);
            assert!(answered, "{said}");
        }
        let (answered, said) = ping(node, cluster);
        assert!(!answered && said.contains("Connection refused"), "{said}");
        let (answered, said) = ping(outside, cluster);
        assert!(!answered, "{said}");
    }
}

#[test]
fn labels_of_the_node_are_judged_anew() {
    let stage = Stage::raise(1, "");
    let label = |labels: Value| {
        let mut node = stage.lab.node(1).manifest();
        node["metadata"]["labels"] = labels;
        stage.lab.publish("nodes", &[node]).unwrap();
    };
    let edge = balancer("edge", 64);
    publish(&stage, &edge, &[&stage.web], |objects| {
        objects[0]["metadata"]["annotations"] =
            json!({ "service.culvert.io/node-selector": "role=edge" });
    });
    let zoned = Service { name: "zoned", number: 65, ..Service::default() };
    let mut objects = zoned.objects(&[&stage.web, &stage.far]);
    for slice in &mut objects[1..] {
        for (endpoint, zone) in [(0, "a"), (1, "b")] {
            slice["endpoints"][endpoint]["hints"] = json!({ "forZones": [{ "name": zone }] });
        }
    }
    stage.lab.publish("zoned", &objects).unwrap();

    let client = &stage.clients[0].place;
    // Unserved, it is the node's own port: refused.
    let node_port = SocketAddr::new(node_ip(1, false), edge.node_port.unwrap());
    let cluster = SocketAddr::new(zoned.cluster_ip(false), SERVICE_PORT);
    for (zone, name) in [("a", "web"), ("b", "far"), ("a", "web")] {
        label(json!({ "topology.kubernetes.io/zone": zone, "role": "edge" }));
        stage.ask_until(client, "tcp", cluster, |_| ten(&stage, client, cluster) == [name]);
        stage.ask_until(&stage.lab.outside, "tcp", node_port, |o| o.is_from("web"));
        label(json!({ "topology.kubernetes.io/zone": zone }));
        stage.ask_until(&stage.lab.outside, "tcp", node_port, Outcome::is_refusal);
    }
}
