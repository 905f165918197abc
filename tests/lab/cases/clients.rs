// SPDX-License-Identifier: Apache-2.0
//! What a service grants by who asks: session affinity and source ranges, on wires.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::stage::{SHARED, ip};
use crate::client::{Outcome, ask_unhooked};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};

fn name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Answer { name, .. } => name,
        Outcome::Error { error } => error,
    }
}

#[test]
fn a_pods_sockets_and_its_packets_share_one_affinity() {
    let stage = &*SHARED;
    let service = Service {
        name: "sticky",
        kind: "NodePort",
        number: 111,
        node_port: Some(30111),
        ..Service::default()
    };
    let mut objects = service.objects(&[&stage.web, &stage.far]);
    objects[0]["spec"]["sessionAffinity"] = "ClientIP".into();
    stage.lab.publish(service.name, &objects).unwrap();
    for v6 in [false, true] {
        let to = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
        for node in &stage.lab.nodes {
            stage.ask_until(&node.place, "tcp", to, |outcome| !outcome.is_refusal());
        }
        let places = stage.clients.iter().map(|pod| (&pod.place, to));
        let node_port = SocketAddr::new(node_ip(1, v6), 30111);
        let outside = [(&stage.lab.outside, node_port)];
        // Which of the two ways comes first must not matter.
        for (turn, (place, to)) in places.chain(outside).enumerate() {
            for protocol in ["tcp", "udp"] {
                let ask = |hooked: bool| {
                    name(match hooked {
                        true => stage.ask(place, protocol, to),
                        false => ask_unhooked(stage.program(), place, protocol, to),
                    })
                };
                let first = ask(turn == 0);
                assert!(["web", "far"].contains(&&*first), "{first}");
                let others: Vec<String> = (0..16).map(|round| ask(round % 2 == 0)).collect();
                assert!(others.iter().all(|other| *other == first), "{first}, then {others:?}");
            }
        }
    }
}

#[test]
fn source_ranges_admit_new_connections_and_end_none() {
    let stage = &*SHARED;
    let service = Service {
        name: "guarded",
        kind: "LoadBalancer",
        number: 112,
        node_port: Some(30112),
        ingress: vec![ip("192.0.2.112"), ip("2001:db8:c0::112")],
        ..Service::default()
    };
    let publish = |admitted: &[IpAddr]| {
        let mut objects = service.objects(&[&stage.far]);
        let ranges =
            admitted.iter().map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
        objects[0]["spec"]["loadBalancerSourceRanges"] = json!(ranges.collect::<Vec<_>>());
        stage.lab.publish(service.name, &objects).unwrap();
    };
    let at = |v6| SocketAddr::new(service.ingress[usize::from(v6)], SERVICE_PORT);
    let (outside, pod) = (&stage.lab.outside, &stage.clients[0].place);
    let both = |of: &dyn Fn(bool) -> IpAddr| [of(false), of(true)];
    let strangers = both(&|v6| node_ip(100, v6));
    let pods = both(&|v6| stage.clients[0].ip(v6).unwrap());

    publish(&strangers);
    let talks: Vec<_> = [false, true]
        .map(|v6| {
            stage.ask_until(outside, "tcp", at(v6), |outcome| outcome.is_from("far"));
            stage.talk(outside, "tcp", at(v6))
        })
        .into();
    publish(&pods);
    for v6 in [false, true] {
        // Pods are clients like others, whether a socket hook or their packets are looked at.
        stage.ask_until(pod, "tcp", at(v6), |outcome| outcome.is_from("far"));
        let unhooked = ask_unhooked(stage.program(), pod, "tcp", at(v6));
        assert!(unhooked.is_from("far"), "{unhooked:?}");
        stage.ask_until(outside, "tcp", at(v6), |outcome| !outcome.is_from("far"));
        for protocol in ["tcp", "udp"] {
            let denied = stage.ask(outside, protocol, at(v6));
            assert!(matches!(denied, Outcome::Error { .. }), "{protocol} {denied:?}");
            let other = ask_unhooked(stage.program(), &stage.clients[1].place, protocol, at(v6));
            assert!(matches!(other, Outcome::Error { .. }), "{protocol} {other:?}");
            let hooked = stage.ask(&stage.clients[1].place, protocol, at(v6));
            assert!(matches!(hooked, Outcome::Error { .. }), "{protocol} {hooked:?}");
            // The node itself is no stranger, and a NodePort has no ranges unless told so.
            let own = stage.ask(&stage.lab.node(1).place, protocol, at(v6));
            assert!(own.is_from("far"), "{protocol} {own:?}");
            let node_port = SocketAddr::new(node_ip(1, v6), 30112);
            let open = stage.ask(outside, protocol, node_port);
            assert!(open.is_from("far"), "{protocol} {open:?}");
        }
    }
    let flaws: Vec<_> = talks.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
    assert!(flaws.is_empty(), "established before: {flaws:#?}");
}
