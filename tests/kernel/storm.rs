// SPDX-License-Identifier: Apache-2.0
//! First packets that come, one by one through the programs, while the tables change under them as
//! fast as they can: each is translated to an endpoint, whatever the agent is at.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use culvert::agent::sync::ServiceSync;
use culvert::lb::{Context, Selection};
use culvert::model::{Change, Kind, Object};

use super::sock_storm::{fast_clock, object};
use crate::support::node::{FAMILIES, Family, Node, TC_REDIRECT};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{Packet, SYN, tcp, udp};

const NODE_PORT: u16 = 30080;
const PACKETS: u32 = 10_000;

#[test]
fn every_packet_of_a_pod_finds_an_endpoint_while_the_service_moves() {
    for family in FAMILIES {
        let to = family.at(cluster_ip(family), 80);
        storm(family, "from_container", |node| node.pod, family.pod, &[&to]);
    }
}

#[test]
fn every_packet_from_the_wire_finds_an_endpoint_while_the_service_moves() {
    for family in FAMILIES {
        let to = [family.at(family.vip, 80), family.at(family.node, NODE_PORT)];
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        storm(family, "from_netdev", |node| node.uplink, family.client, &to);
    }
}

/// Endpoints on this node and on others take turns, alone and together.
fn storm(family: Family, program: &str, device: fn(&Node) -> u32, client: &str, to: &[&str]) {
    let node = Node::new();
    let maps = Arc::clone(node.objects.maps());
    let context = Context::of("here");
    let mut sync = ServiceSync::adopt(maps, context, Selection::default(), &[]).unwrap();
    let sets: [&[&str]; 3] =
        [&[family.other_pod, family.remote], &[family.remote], &[family.other_pod]];
    let mut settle = fast_clock();
    sync.change(Change::Listed(Kind::Service, vec![service(family)]));
    sync.change(Change::Listed(Kind::EndpointSlice, vec![slice(sets[0])]));
    settle(&mut sync);

    let (done, changes) = (AtomicBool::new(false), AtomicU32::new(0));
    let reached = thread::scope(|scope| {
        scope.spawn(|| {
            for set in sets.iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                sync.change(Change::Set(slice(set)));
                settle(&mut sync);
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let reached = node.ns.run(|| {
            let mut reached = BTreeSet::new();
            let mut sent = 0;
            // However few CPUs there are, the two overlap.
            while sent < PACKETS || changes.load(Ordering::Relaxed) < 1000 {
                let from = family.at(client, 1024 + (sent % 60_000) as u16);
                let proto = if sent % 2 == 0 { TCP } else { UDP };
                let packet = first(proto, &from, to[sent as usize % to.len()]);
                let (action, frame) = node.raw_inside(program, device(&node), &packet.bytes());
                if action != TC_REDIRECT {
                    return Err(format!("{packet:?}: {action}, {:?}", node.outcomes()));
                }
                reached.insert(Packet::parse(&frame).dst);
                sent += 1;
                if sent % 1000 == 0 {
                    // What is open would be found again, and nothing chosen.
                    node.objects.forget_flows();
                }
            }
            Ok(reached)
        });
        done.store(true, Ordering::Relaxed);
        reached
    });
    let expected = [family.other_pod, family.remote].map(|at| family.at(at, 8080).parse().unwrap());
    assert_eq!(reached, Ok(BTreeSet::from(expected)));
    assert!(sync.problems().is_empty(), "{:?}", sync.problems());
}

fn first(proto: u8, from: &str, to: &str) -> Packet {
    if proto == TCP { tcp(from, to, SYN) } else { udp(from, to) }
}

fn cluster_ip(family: Family) -> &'static str {
    if family.v6 { "fd96::1" } else { "10.96.0.1" }
}

fn service(family: Family) -> Object {
    let ports = |proto: &str| {
        let name = proto.to_lowercase();
        format!("{{name: {name}, port: 80, nodePort: {NODE_PORT}, protocol: {proto}}}")
    };
    let (ip, vip) = (cluster_ip(family), family.vip);
    object(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: default}}, spec: {{type: \
         LoadBalancer, clusterIP: '{ip}', clusterIPs: ['{ip}'], ports: [{}, {}]}}, status: \
         {{loadBalancer: {{ingress: [{{ip: '{vip}'}}]}}}}}}",
        ports("TCP"),
        ports("UDP")
    ))
}

fn slice(addresses: &[&str]) -> Object {
    let family = if addresses[0].parse::<IpAddr>().unwrap().is_ipv6() { "IPv6" } else { "IPv4" };
    let endpoints: Vec<String> =
        addresses.iter().map(|address| format!("{{addresses: ['{address}']}}")).collect();
    object(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: s, namespace: \
         default, labels: {{kubernetes.io/service-name: s}}}}, addressType: {family}, ports: \
         [{{name: tcp, port: 8080, protocol: TCP}}, {{name: udp, port: 8080, protocol: UDP}}], \
         endpoints: [{}]}}",
        endpoints.join(", ")
    ))
}
