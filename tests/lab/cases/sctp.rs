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

/// Beside the ports that every service of the lab has.
fn with_sctp(service: &Service, backends: &[&Pod]) -> Vec<Value> {
    let mut objects = service.objects(backends);
    let port = json!({
        "name": "sctp", "protocol": "SCTP", "port": SERVICE_PORT, "targetPort": PORT,
        "nodePort": NODE_PORT,
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
