// SPDX-License-Identifier: Apache-2.0
//! Which endpoints count, and the reason for each that does not.

use super::super::support::*;
use super::{Asker, OUTSIDE, POD, agrees, balanced, one, world};
use crate::lb::{Context, EndpointView, Fate, Question, Side};
use crate::model::{Endpoint, Hints, Protocol, SlicePort, TrafficPolicy};

/// State, whether it counts, and the reason, by address.
fn endpoints(kernel: &Kernel, from: Option<(&str, Side)>) -> Vec<(String, String)> {
    let found = Asker::default().ask(kernel, &Question::Service(name("web")), from);
    let all = found.services[0].ports[0].endpoints.iter();
    let text = |e: &EndpointView| format!("{} {} {}", e.state, e.counts, e.reason);
    all.map(|e| (e.address.trim_end_matches(":8080").to_owned(), text(e))).collect()
}

#[test]
fn every_endpoint_that_does_not_count_has_its_reason() {
    let unready = |address: &str| Endpoint { ready: false, serving: false, ..endpoint(address) };
    let mut local = balanced();
    local.external_policy = TrafficPolicy::Local;
    let kernel = world(
        local.clone(),
        vec![
            endpoint("10.1.0.1").on("here"),
            endpoint("10.1.0.2").on("far"),
            endpoint("10.1.0.3").on("here").terminating(),
            endpoint("10.1.0.4").on("far").terminating(),
            unready("10.1.0.5").on("here"),
        ],
    );
    agrees(&kernel);
    let expected = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        rows.iter().map(|(address, text)| ((*address).to_owned(), (*text).to_owned())).collect()
    };
    let both = [
        ("10.1.0.3", "terminating false terminating, and others are ready"),
        ("10.1.0.1", "ready true "),
        ("10.1.0.2", "ready true policy Local leaves it out: not on this node"),
        ("10.1.0.4", "terminating false terminating, and others are ready"),
        (
            "10.1.0.5",
            "not ready false not ready: TCP connections to it go on, new ones do not come",
        ),
    ];
    assert_eq!(endpoints(&kernel, None), expected(&both));
    // Policy Local does not concern pods.
    assert_eq!(endpoints(&kernel, POD)[2].1, "ready true ");

    let fallback = vec![endpoint("10.1.0.3").on("here").terminating(), endpoint("10.1.0.2")];
    let kernel = world(local, fallback);
    agrees(&kernel);
    let (fate, _, why) = one(&kernel, "192.0.2.2:80", OUTSIDE);
    assert_eq!(fate, Fate::Served);
    assert!(why.contains("policy Local, the only endpoint that counts (terminating"), "{why}");
    let rows = [
        ("10.1.0.3", "terminating true terminating, and others are ready"),
        ("10.1.0.2", "ready true policy Local leaves it out: not on this node"),
    ];
    assert_eq!(endpoints(&kernel, None), expected(&rows));
}

#[test]
fn endpoints_that_are_no_candidates_are_named_too() {
    let mut dns = service("web", &["10.96.0.1"]);
    dns.ports = vec![http("dns", 53)];
    dns.ports[0].protocol = Protocol::Udp;
    let mut ours = slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]);
    ours.ports[0] = SlicePort { name: "dns".into(), protocol: Protocol::Udp, port: 8080 };
    ours.endpoints[1].ready = false;
    ours.endpoints[1].serving = false;
    let mut other = slice("other", vec![endpoint("10.1.0.3")]).of("web");
    other.ports[0].name = "dns-tcp".into();
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(dns);
    kernel.balancer.set_slice(ours);
    kernel.balancer.set_slice(other);
    kernel.sync();
    let found = endpoints(&kernel, None);
    assert_eq!(found[0].1, "ready true ");
    assert!(
        found.iter().any(|(a, why)| a == "10.1.0.2" && why.contains("UDP has no")),
        "{found:?}"
    );
    let no_port = "ready false its slice has no port `dns` over UDP".to_owned();
    assert!(found.contains(&("10.1.0.3".to_owned(), no_port)), "{found:?}");
}

#[test]
fn what_finds_no_place_in_the_maps_does_not_count() {
    let mut kernel = Kernel::with_targets(2);
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    let three = ["10.1.0.1", "10.1.0.2", "10.1.0.3"].map(endpoint).to_vec();
    kernel.balancer.set_slice(slice("web", three));
    kernel.sync();
    agrees(&kernel);
    assert_eq!(endpoints(&kernel, None)[2].1, "ready false no place in the maps");
    let found = Asker::default().ask(&kernel, &Question::Service(name("web")), None);
    assert!(found.services[0].problems[0].contains("no place"), "{found:?}");
}

#[test]
fn topology_hints_choose_and_say_so() {
    let hinted = |address: &str, zone: &str| {
        let hints = Hints { zones: vec![zone.into()], nodes: vec![] };
        Endpoint { hints: Some(hints.into()), ..endpoint(address) }
    };
    let mut kernel = Kernel::new();
    kernel.balancer.set_context(Context { zone: Some("a".into()), ..Context::of("here") });
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    kernel.balancer.set_slice(slice("web", vec![hinted("10.1.0.1", "a"), hinted("10.1.0.2", "b")]));
    kernel.sync();
    agrees(&kernel);
    let (_, _, why) = one(&kernel, "10.96.0.1:80", POD);
    assert!(why.ends_with("(topology hints)"), "{why}");
    assert_eq!(endpoints(&kernel, None)[1].1, "ready false topology hints prefer others");
}
