// SPDX-License-Identifier: Apache-2.0
//! Annotations: what each does, under either prefix, and what a bad one does not do.

use super::support::*;
use crate::abi::{
    SERVICE_DELEGATE, SERVICE_DSR, SERVICE_HAS_ENDPOINTS, SERVICE_SOURCE_RANGES,
    SERVICE_SOURCE_RANGES_DENY, ServiceKind,
};
use crate::lb::{Context, Selection, obeyed_annotations};
use crate::model::{IngressAddress, Service, ServiceType};

fn web(annotations: &[(&str, &str)]) -> Service {
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::LoadBalancer;
    web.ports[0].node_port = Some(30080);
    web.external_ips = vec![ip("192.0.2.1")];
    web.ingress = vec![IngressAddress { ip: ip("192.0.2.2"), proxied: false }];
    web.source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
    let annotations = annotations.iter();
    web.annotations = annotations.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    web
}

/// The kinds that are served on a node with these labels, with the flags of the last, and what is
/// said.
fn served(annotations: &[(&str, &str)], labels: &[(&str, &str)]) -> (String, u16, u8, Vec<String>) {
    let selection = Selection { words: 1000, ..Selection::default() };
    let mut kernel = Kernel::choosing(64, selection, "here");
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    kernel.balancer.set_context(Context { labels, ..Context::of("here") });
    kernel.balancer.set_service(web(annotations));
    let endpoints = ["10.1.0.1", "10.1.0.2"].map(endpoint);
    kernel.balancer.set_slice(slice("web", endpoints.into()));
    kernel.sync();
    let mut values: Vec<_> = kernel.tables.services.values().collect();
    values.sort_by_key(|value| value.kind);
    let kinds = values.iter().map(|v| ServiceKind::from_number(v.kind).unwrap().name());
    let kinds: Vec<&str> = kinds.collect();
    let last = values.last().unwrap();
    let problems = kernel.balancer.problems().into_iter();
    let problems = problems.map(|p| format!("{}: {}", p.subject, p.message)).collect();
    (kinds.join(" "), last.flags & !SERVICE_HAS_ENDPOINTS, last.algorithm, problems)
}

const ALL: &str = "ClusterIP NodePort ExternalIPs LoadBalancer";

#[test]
fn each_annotation_does_its_work_under_either_prefix_and_ours_wins() {
    let ranges = SERVICE_SOURCE_RANGES;
    let deny = ranges | SERVICE_SOURCE_RANGES_DENY;
    let cases = [
        ("type", "LoadBalancer, ClusterIP", "ClusterIP ExternalIPs LoadBalancer", ranges, 0),
        ("type", "NodePort", "NodePort", 0, 0),
        ("node", "edge", "ClusterIP", 0, 0),
        ("node", "core", ALL, ranges, 0),
        ("node-selector", "rack in (r1,r2),!drain", ALL, ranges, 0),
        ("node-selector", "rack=r2", "ClusterIP", 0, 0),
        ("src-ranges-policy", "deny", ALL, deny, 0),
        ("src-ranges-policy", "allow", ALL, ranges, 0),
        ("proxy-delegation", "delegate-if-local", ALL, ranges | SERVICE_DELEGATE, 0),
        ("lb-algorithm", "maglev", ALL, ranges, 1),
        ("forwarding-mode", "dsr", ALL, ranges | SERVICE_DSR, 0),
    ];
    for (name, value, kinds, flags, algorithm) in cases {
        let said = format!("service.culvert.io/{name}");
        assert!(obeyed_annotations().any(|each| each == said), "{name} is obeyed");
        for prefix in ["service.culvert.io/", "service.cilium.io/"] {
            let label = format!("{prefix}node");
            let found =
                served(&[(&format!("{prefix}{name}"), value)], &[(&label, "core"), ("rack", "r1")]);
            assert_eq!(found, (kinds.to_owned(), flags, algorithm, vec![]), "{name}: {value}");
        }
    }
    let both = [("service.cilium.io/type", "NodePort"), ("service.culvert.io/type", "ClusterIP")];
    assert_eq!(served(&both, &[]).0, "ClusterIP");
}

#[test]
fn a_value_that_is_not_understood_is_said_and_changes_nothing() {
    for name in [
        "node-selector",
        "type",
        "src-ranges-policy",
        "proxy-delegation",
        "lb-algorithm",
        "forwarding-mode",
    ] {
        let key = format!("service.culvert.io/{name}");
        let (kinds, flags, algorithm, problems) = served(&[(&key, "no such=thing")], &[]);
        assert_eq!((kinds.as_str(), flags, algorithm), (ALL, SERVICE_SOURCE_RANGES, 0), "{name}");
        let start = format!("Service default/web: annotation `{key}: no such=thing` is not under");
        assert!(problems.len() == 1 && problems[0].starts_with(&start), "{problems:?}");
    }
}

#[test]
fn another_label_of_this_node_is_judged_at_once_and_costs_only_services_that_select() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(web(&[("service.culvert.io/node-selector", "edge")]));
    kernel.balancer.set_service(service("plain", &["10.96.0.2"]));
    kernel.sync();
    assert_eq!(kernel.tables.services.len(), 2);
    for (labels, frontends) in [(vec!["edge"], 5), (vec!["edge", "more"], 5), (vec![], 2)] {
        let labels = labels.into_iter().map(|key| (key.to_owned(), String::new())).collect();
        kernel.balancer.set_context(Context { labels, ..Context::of("here") });
        assert_eq!(kernel.balancer.pending(), 1);
        kernel.sync();
        assert_eq!(kernel.tables.services.len(), frontends);
    }
}
