// SPDX-License-Identifier: Apache-2.0
//! Who reaches what: every service type from every kind of client.

use std::net::{IpAddr, SocketAddr};

use super::dsr_path::{ask, connect};
use super::stage::{EXTERNAL_IPS_INSIDE, SHARED, Stage, ip};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::place::Place;
use crate::lab::pod::PORT;
use crate::support::interrupt::uninterrupted;

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "udp-unconnected"];

#[test]
fn every_service_type_answers_every_client() {
    let stage = &*SHARED;
    let services = one_of_each_type();
    for service in &services {
        stage.serve(service, &[&stage.web]);
    }
    let failures = reach_all(stage, &services, true);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn pods_without_the_socket_hook_are_served_packet_by_packet() {
    let config = format!("{EXTERNAL_IPS_INSIDE}socketLB:\n  hostNamespaceOnly: true\n");
    let stage = Stage::raise(2, &config);
    let services = one_of_each_type();
    for service in &services {
        stage.serve(service, &[&stage.web]);
    }
    let mut failures = reach_all(&stage, &services, false);
    failures.extend(hairpin(&stage, 41));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_pod_reaches_itself_through_its_own_service() {
    let failures = hairpin(&SHARED, 40);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn node_ports_answer_on_the_hosts_own_loopback() {
    let stage = &*SHARED;
    let service = Service {
        name: "loopback",
        kind: "NodePort",
        number: 42,
        node_port: Some(30042),
        ..Service::default()
    };
    stage.serve(&service, &[&stage.far]);
    for loopback in ["127.0.0.1", "::1"] {
        for protocol in PROTOCOLS {
            let to = SocketAddr::new(ip(loopback), 30042);
            let outcome = stage.ask(&stage.lab.node(1).place, protocol, to);
            assert!(outcome.is_from("far"), "{protocol} to {to}: {outcome:?}");
        }
    }
}

#[test]
fn a_service_without_endpoints_refuses_pods_and_strangers_at_once() {
    let stage = &*SHARED;
    let service = without_endpoints("nobody", 43);
    stage.lab.publish(service.name, &service.objects(&[])).unwrap();
    let mut failures = Vec::new();
    for v6 in [false, true] {
        let cluster = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
        let balancer = SocketAddr::new(service.ingress[usize::from(v6)], SERVICE_PORT);
        let node_port = SocketAddr::new(node_ip(1, v6), 30043);
        let pods = stage.clients.iter().map(|pod| (&pod.place, cluster));
        let strangers = [balancer, node_port].map(|to| (&stage.lab.outside, to));
        for (place, to) in pods.chain(strangers) {
            // The agent may not have heard of it yet.
            stage.ask_until(place, "tcp", to, Outcome::is_refusal);
            let outcome = stage.ask(place, "udp", to);
            if !outcome.is_refusal() {
                failures.push(format!("udp to {to}: {outcome:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_service_without_endpoints_refuses_hosts_at_once() {
    let stage = &*SHARED;
    let service = without_endpoints("nobody-either", 47);
    stage.serve(&service, &[]);
    for v6 in [false, true] {
        let to = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
        for protocol in ["tcp", "udp"] {
            let outcome = stage.ask(&stage.lab.node(1).place, protocol, to);
            assert!(outcome.is_refusal(), "{protocol} to {to}: {outcome:?}");
        }
    }
}

fn without_endpoints(name: &'static str, number: u8) -> Service {
    Service {
        name,
        kind: "LoadBalancer",
        number,
        node_port: Some(30000 + u16::from(number)),
        ingress: vec![ip(&format!("192.0.2.{number}")), ip(&format!("2001:db8:c0::{number}"))],
        ..Service::default()
    }
}

#[test]
fn one_client_port_reaches_one_backend_through_two_addresses() {
    let stage = &*SHARED;
    let service = |name, number, last: u8| Service {
        name,
        kind: "LoadBalancer",
        number,
        node_port: Some(30000 + u16::from(number)),
        ingress: vec![ip(&format!("192.0.2.{last}")), ip(&format!("2001:db8:c0::{last}"))],
        ..Service::default()
    };
    let services = [service("twin-a", 44, 44), service("twin-b", 45, 45)];
    for service in &services {
        stage.serve(service, &[&stage.far]);
    }
    for v6 in [false, true] {
        let any = SocketAddr::new(ip(if v6 { "::" } else { "0.0.0.0" }), 0);
        let socket = stage.lab.outside.netns.run(|| std::net::UdpSocket::bind(any)).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
        // Each in turn, twice: the second flow must not have taken the first one's place.
        for service in services.iter().chain(&services) {
            let to = SocketAddr::new(service.ingress[usize::from(v6)], SERVICE_PORT);
            socket.send_to(b"twin", to).unwrap();
            let mut buffer = [0; 256];
            let (length, from) = uninterrupted(|| socket.recv_from(&mut buffer))
                .unwrap_or_else(|e| panic!("{to}: {e}"));
            assert_eq!(from, to, "the answer comes from whom was asked");
            assert!(buffer[..length].starts_with(b"far "));
        }
    }
}

/// A connection to a pod has no flow on its node: the pod's own sockets tell of it.
#[test]
fn one_client_port_reaches_one_backend_directly_and_through_its_node() {
    let stage = &*SHARED;
    let node_port = 30046;
    let service = Service {
        name: "beside",
        kind: "NodePort",
        number: 46,
        node_port: Some(node_port),
        ..Service::default()
    };
    stage.serve(&service, &[&stage.web]);
    // This process is in no pod's cgroup: no socket hook translates what it asks.
    let open = |to| stage.lab.node(2).place.netns.run(|| connect(to, 23456));
    for v6 in [false, true] {
        let through = SocketAddr::new(node_ip(1, v6), node_port);
        let mut both = [SocketAddr::new(stage.web.ip(v6).unwrap(), PORT), through].map(open);
        for question in ["first", "second"] {
            for stream in &mut both {
                let answer = ask(stream, question).unwrap();
                assert!(answer.starts_with("web ") && answer.ends_with(question), "{answer}");
            }
        }
    }
}

pub fn one_of_each_type() -> [Service; 4] {
    [
        Service { name: "cluster", number: 10, ..Service::default() },
        Service {
            name: "nodeport",
            kind: "NodePort",
            number: 11,
            node_port: Some(30080),
            ..Service::default()
        },
        Service {
            name: "external",
            number: 12,
            external_ips: vec![ip("198.51.100.10"), ip("2001:db8:51::10")],
            ..Service::default()
        },
        Service {
            name: "balancer",
            kind: "LoadBalancer",
            number: 13,
            node_port: Some(30081),
            ingress: vec![ip("192.0.2.10"), ip("2001:db8:c0::10")],
            ..Service::default()
        },
    ]
}

/// Every address of every service, from everywhere. `web` is the only backend.
pub fn reach_all(
    stage: &Stage,
    services: &[Service],
    clients_see_the_service: bool,
) -> Vec<String> {
    let lab = &stage.lab;
    let clients: [(&str, &Place); 5] = [
        ("a pod of the same node", &stage.clients[0].place),
        ("a pod of another node", &stage.clients[1].place),
        ("the same node", &lab.node(1).place),
        ("another node", &lab.node(2).place),
        ("outside", &lab.outside),
    ];
    let mut failures = Vec::new();
    for (who, place) in clients {
        for v6 in [false, true] {
            for service in services {
                for to in addresses(service, v6, who == "outside") {
                    for protocol in PROTOCOLS {
                        let outcome = stage.ask(place, protocol, to);
                        let wrong = judge(stage, &outcome, who, to, clients_see_the_service);
                        failures.extend(wrong.map(|why| {
                            format!("{} {protocol} {to} from {who}: {why}", service.name)
                        }));
                    }
                }
            }
        }
    }
    failures
}

/// Nobody outside the cluster is served on a ClusterIP.
fn addresses(service: &Service, v6: bool, outside: bool) -> Vec<SocketAddr> {
    let at = |ip: &IpAddr| SocketAddr::new(*ip, SERVICE_PORT);
    let family = |ip: &&IpAddr| ip.is_ipv6() == v6;
    let mut addresses: Vec<SocketAddr> =
        service.external_ips.iter().chain(&service.ingress).filter(family).map(at).collect();
    if !outside {
        addresses.push(at(&service.cluster_ip(v6)));
    }
    if let Some(port) = service.node_port {
        addresses.extend([1, 2].map(|node| SocketAddr::new(node_ip(node, v6), port)));
    }
    addresses
}

/// What is wrong with an answer, if anything.
fn judge(
    stage: &Stage,
    outcome: &Outcome,
    who: &str,
    to: SocketAddr,
    clients_see_the_service: bool,
) -> Option<String> {
    let Outcome::Answer { name, peer, seen } = outcome else {
        return Some(format!("{outcome:?}"));
    };
    if name != "web" {
        return Some(format!("`{name}` answered"));
    }
    if *seen != to && (clients_see_the_service || who == "outside") {
        return Some(format!("the client sees {seen}"));
    }
    // The first node has the backend and keeps the client's address; the second has to put its own.
    let v6 = to.is_ipv6();
    let expected = match who {
        // It really goes there: no node knows the other's addresses as its own.
        "a pod of the same node" if to.ip() == node_ip(2, v6) => Some(node_ip(2, v6)),
        "a pod of the same node" => stage.clients[0].ip(v6),
        "a pod of another node" => stage.clients[1].ip(v6),
        "outside" if to.ip() == node_ip(2, v6) => Some(node_ip(2, v6)),
        "outside" => Some(node_ip(100, v6)),
        _ => None,
    };
    expected.filter(|ip| peer.ip() != *ip).map(|ip| format!("the server saw {peer}, not {ip}"))
}

pub fn hairpin(stage: &Stage, number: u8) -> Vec<String> {
    let service = Service { name: "own", number, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    hairpin_of(stage, &service)
}

/// `web`, the only backend of `service`, asks itself through it.
pub fn hairpin_of(stage: &Stage, service: &Service) -> Vec<String> {
    let mut failures = Vec::new();
    for v6 in [false, true] {
        for protocol in PROTOCOLS {
            let to = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
            let outcome = stage.ask(&stage.web.place, protocol, to);
            if !outcome.is_from("web") {
                failures.push(format!("{protocol} to {to} from its own backend: {outcome:?}"));
            }
        }
    }
    failures
}
