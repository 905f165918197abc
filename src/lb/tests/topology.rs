// SPDX-License-Identifier: Apache-2.0
//! Topology hints: when they count, whom they prefer, and what they leave alone.

use super::support::*;
use crate::lb::Context;
use crate::model::{Endpoint, Hints, Service, ServiceType, TrafficPolicy};

fn hinted(address: &str, node: &str, zones: &[&str], nodes: &[&str]) -> Endpoint {
    let names = |all: &[&str]| all.iter().map(|name| (*name).into()).collect();
    let hints = Hints { zones: names(zones), nodes: names(nodes) };
    Endpoint { hints: Some(hints.into()), ..endpoint(address).on(node) }
}

fn web() -> Service {
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::NodePort;
    web.ports[0].node_port = Some(30080);
    web.external_policy = TrafficPolicy::Local;
    web
}

/// Who serves pods of this node, which lies in zone `a`, and clients outside.
fn served(endpoints: Vec<Endpoint>) -> (Vec<String>, Vec<String>) {
    let mut kernel = Kernel::new();
    kernel.balancer.set_context(Context { zone: Some("a".into()), ..Context::of("here") });
    kernel.balancer.set_service(web());
    kernel.balancer.set_slice(slice("web", endpoints));
    kernel.sync();
    let short = |names: Vec<String>| -> Vec<String> {
        names.iter().map(|name| name.trim_end_matches(":8080").into()).collect()
    };
    let node_port = crate::abi::ServiceKey::new(crate::abi::Addr::V4_WILDCARD, 30080, 6);
    (short(kernel.inside(node_port)), short(kernel.outside(node_port)))
}

#[test]
fn hints_count_when_every_ready_endpoint_has_one_and_one_means_us() {
    let here = |zones: &[&str], nodes: &[&str]| hinted("10.1.0.1", "here", zones, nodes);
    let near = |zones: &[&str], nodes: &[&str]| hinted("10.1.0.2", "near", zones, nodes);
    let far = |zones: &[&str], nodes: &[&str]| hinted("10.1.0.3", "far", zones, nodes);
    let all = vec!["10.1.0.1", "10.1.0.2", "10.1.0.3"];
    let cases = [
        ("no hints", [here(&[], &[]), near(&[], &[]), far(&[], &[])], all.clone()),
        (
            "our zone",
            [here(&["b"], &[]), near(&["a"], &[]), far(&["b", "a"], &[])],
            vec!["10.1.0.2", "10.1.0.3"],
        ),
        (
            "our zone, and one is here",
            [here(&["a"], &[]), near(&["a"], &[]), far(&["b"], &[])],
            vec!["10.1.0.1", "10.1.0.2"],
        ),
        ("no zone is ours", [here(&["b"], &[]), near(&["b"], &[]), far(&["c"], &[])], all.clone()),
        ("one has no hint", [here(&["a"], &[]), near(&[], &[]), far(&["a"], &[])], all.clone()),
        (
            "our node before our zone",
            [here(&["a"], &["here"]), near(&["a"], &["near"]), far(&["b"], &["far"])],
            vec!["10.1.0.1"],
        ),
        (
            "no node is us, so our zone",
            [here(&["b"], &["x"]), near(&["a"], &["near"]), far(&["b"], &["far"])],
            vec!["10.1.0.2"],
        ),
        (
            "one has no hint for nodes, so our zone",
            [here(&["a"], &["here"]), near(&["a"], &[]), far(&["b"], &["far"])],
            vec!["10.1.0.1", "10.1.0.2"],
        ),
    ];
    for (what, endpoints, expected) in cases {
        let (inside, outside) = served(endpoints.to_vec());
        assert_eq!(inside, expected, "{what}");
        assert_eq!(outside, ["10.1.0.1"], "{what}: policy Local looks at no hint");
    }
}

#[test]
fn endpoints_that_are_not_ready_have_no_say_and_terminating_ones_ignore_hints() {
    let near = hinted("10.1.0.2", "near", &["a"], &[]);
    let leaving = endpoint("10.1.0.1").on("here").terminating();
    let far = hinted("10.1.0.3", "far", &["b"], &[]);
    assert_eq!(served(vec![leaving.clone(), near.clone(), far.clone()]).0, ["10.1.0.2"]);
    let all = vec![leaving, near.terminating(), far.terminating()];
    assert_eq!(served(all).0, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
}

#[test]
fn another_zone_of_this_node_is_judged_at_once_and_costs_only_hinted_services() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(web());
    let zones = [("10.1.0.1", "a"), ("10.1.0.2", "b")];
    let endpoints = zones.map(|(address, zone)| hinted(address, "far", &[zone], &[]));
    kernel.balancer.set_slice(slice("web", endpoints.to_vec()));
    kernel.balancer.set_service(service("plain", &["10.96.0.2"]));
    kernel.balancer.set_slice(slice("plain", vec![endpoint("10.1.0.1")]));
    kernel.sync();
    let vip = crate::abi::ServiceKey::new(ip("10.96.0.1").into(), 80, 6);
    assert_eq!(kernel.inside(vip).len(), 2, "the zone of this node is not known");

    for (zone, address) in [("a", "10.1.0.1:8080"), ("b", "10.1.0.2:8080")] {
        kernel.balancer.set_context(Context { zone: Some(zone.into()), ..Context::of("here") });
        assert_eq!(kernel.balancer.pending(), 1);
        kernel.sync();
        assert_eq!(kernel.inside(vip), [address]);
    }
}
