// SPDX-License-Identifier: Apache-2.0
//! SCTP through every type of service, on wires.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::stage::{SHARED, ip};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::pod::{PORT, Pod};

const NODE_PORT: u16 = 30110;
const HOST_PORT: u16 = 4325;

/// Beside the ports that every service of the lab has.
pub fn with_sctp(service: &Service, backends: &[&Pod]) -> Vec<Value> {
    let mut objects = service.objects(backends);
    let port = json!({
        "name": "sctp", "protocol": "SCTP", "port": SERVICE_PORT, "targetPort": PORT,
        "nodePort": service.node_port,
    });
    objects[0]["spec"]["ports"].as_array_mut().unwrap().push(port);
    for slice in &mut objects[1..] {
        let port = json!({ "name": "sctp", "protocol": "SCTP", "port": PORT });
        slice["ports"].as_array_mut().unwrap().push(port);
    }
    objects
}

#[test]
fn sctp_reaches_backends_through_every_service_type() {
    let stage = &*SHARED;
    let service = Service {
        name: "sctp",
        kind: "LoadBalancer",
        number: 110,
        node_port: Some(NODE_PORT),
        external_ips: vec![ip("198.51.100.110"), ip("2001:db8:51::110")],
        ingress: vec![ip("192.0.2.110"), ip("2001:db8:c0::110")],
        ..Service::default()
    };
    let (pods, outside) = ([&stage.clients[0].place, &stage.clients[1].place], &stage.lab.outside);
    for backend in [&stage.web, &stage.far] {
        stage.lab.publish(service.name, &with_sctp(&service, &[backend])).unwrap();
        for v6 in [false, true] {
            let at = |ip| SocketAddr::new(ip, SERVICE_PORT);
            let cluster = at(service.cluster_ip(v6));
            let balancer = at(service.ingress[usize::from(v6)]);
            let external = at(service.external_ips[usize::from(v6)]);
            let node_ports = [1, 2].map(|node| SocketAddr::new(node_ip(node, v6), NODE_PORT));
            let inside = [cluster, balancer, node_ports[0], node_ports[1]];
            let visits = pods
                .into_iter()
                .flat_map(|place| inside.map(|to| (place, to)))
                .chain([balancer, external, node_ports[0], node_ports[1]].map(|to| (outside, to)));
            for (place, to) in visits {
                // The agents may not have heard of it yet.
                let from = |outcome: &Outcome| outcome.is_from(&backend.name);
                let outcome = stage.ask_until(place, "sctp", to, from);
                let Outcome::Answer { seen, .. } = outcome else { unreachable!() };
                assert_eq!(seen, to, "the answer comes from whom was asked");
            }
        }
    }
}

#[test]
fn sctp_reaches_a_host_port_and_leaves_it_with_the_pod() {
    let stage = &*SHARED;
    let port = json!({ "containerPort": PORT, "hostPort": HOST_PORT, "protocol": "SCTP" });
    let ips: Vec<Value> = stage.web.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "web", "namespace": "lab" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "web", "ports": [port] }] },
        "status": { "phase": "Running", "podIPs": ips },
    });
    stage.lab.publish("host-sctp", std::slice::from_ref(&pod)).unwrap();
    let clients = [&stage.clients[0].place, &stage.clients[1].place, &stage.lab.outside];
    let to = |node, v6| SocketAddr::new(node_ip(node, v6), HOST_PORT);
    for v6 in [false, true] {
        for place in clients {
            let outcome = stage.ask_until(place, "sctp", to(1, v6), |o| o.is_from("web"));
            let Outcome::Answer { seen, .. } = outcome else { unreachable!() };
            assert_eq!(seen, to(1, v6), "the answer comes from whom was asked");
        }
    }
    // Of this protocol alone.
    for protocol in ["tcp", "udp"] {
        let outcome = stage.ask(&stage.lab.outside, protocol, to(1, false));
        assert!(outcome.is_refusal(), "{protocol}: {outcome:?}");
    }
    pod["status"]["phase"] = "Succeeded".into();
    stage.lab.publish("host-sctp", &[pod]).unwrap();
    let ended = |outcome: &Outcome| matches!(outcome, Outcome::Error { .. });
    stage.ask_until(&stage.lab.outside, "sctp", to(1, false), ended);
    std::fs::remove_file(stage.lab.manifests().join("host-sctp.yaml")).unwrap();
}
