// SPDX-License-Identifier: Apache-2.0
//! Every answer of a real API server in `tests/fixtures/apiserver-1.36` is decoded.

mod watches;

use std::fs;
use std::path::PathBuf;

use culvert::k8s::decode::{Decoded, Decoder, NotOurs, Wire};
use culvert::k8s::wire;
use culvert::model::{
    AddressKind, Endpoint, EndpointSlice, Hints, HostPort, IngressAddress, Node, NodeAddress,
    Object, ObjectKey, ObjectName, Pod, Protocol, Service, ServicePort, ServiceType, SlicePort,
    TrafficPolicy,
};
use kube::api::ObjectList;

/// Each file is named by the test that reads it, so that none is forgotten.
const READ: [&str; 19] = [
    "error-401",
    "error-403",
    "error-404",
    "error-410-watch",
    "list-endpointslices",
    "list-nodes",
    "list-pods",
    "list-services",
    "list-services-page1",
    "list-services-page2",
    "version",
    "watch-endpointslices",
    "watch-nodes",
    "watch-pods",
    "watch-services",
    "watchlist-endpointslices",
    "watchlist-nodes",
    "watchlist-pods",
    "watchlist-services",
];

#[test]
fn every_recorded_answer_is_read_by_a_test() {
    let mut names: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str().unwrap().strip_suffix(".json").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert_eq!(names, READ);
}

#[test]
fn the_listed_services_are_understood() {
    let web = Service {
        name: ObjectName::new("shop", "web"),
        r#type: ServiceType::LoadBalancer,
        cluster_ips: vec!["10.96.34.137".parse().unwrap()],
        external_ips: vec!["203.0.113.7".parse().unwrap()],
        ingress: vec![IngressAddress { ip: "192.0.2.10".parse().unwrap(), proxied: false }],
        ports: vec![
            ServicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: Some(31687),
            },
            ServicePort {
                name: "dns".into(),
                protocol: Protocol::Udp,
                port: 53,
                node_port: Some(30506),
            },
        ],
        external_policy: TrafficPolicy::Local,
        internal_policy: TrafficPolicy::Cluster,
        affinity_timeout: Some(10_800),
        load_balancer_class: None,
        source_ranges: vec!["192.0.2.0/24".parse().unwrap()],
        health_check_node_port: Some(30257),
        distribution: None,
        annotations: [].into(),
        cluster: None,
    };
    let not = |name, why| Decoded::NotOurs(ObjectKey::Service(ObjectName::new("shop", name)), why);
    assert_eq!(
        list::<wire::Service>("list-services"),
        [
            Decoded::Ours(Object::Service(kubernetes())),
            not("ext", NotOurs::ExternalName),
            not("headless", NotOurs::Headless),
            Decoded::Ours(Object::Service(web)),
        ]
    );
}

#[test]
fn pages_carry_their_continuation() {
    let pages = ["list-services-page1", "list-services-page2"].map(|name| {
        let page: ObjectList<wire::Service> = serde_json::from_str(&read(name)).unwrap();
        assert_eq!(page.metadata.resource_version.as_deref(), Some("389"));
        assert!(page.metadata.continue_.is_some());
        page.metadata.remaining_item_count
    });
    assert_eq!(pages, [Some(3), Some(2)]);
    assert_eq!(
        list::<wire::Service>("list-services-page1"),
        [Decoded::Ours(Object::Service(kubernetes()))]
    );
    let ext = ObjectKey::Service(ObjectName::new("shop", "ext"));
    assert_eq!(
        list::<wire::Service>("list-services-page2"),
        [Decoded::NotOurs(ext, NotOurs::ExternalName)]
    );
}

#[test]
fn the_listed_slices_are_understood() {
    let web = slice(
        "web-x4h4n",
        "web",
        vec![
            endpoint("10.244.1.9", "n1", [false, false, false]),
            endpoint("10.244.2.9", "n2", [false, false, true]),
        ],
        vec![("dns", Protocol::Udp, 5353), ("http", Protocol::Tcp, 80)],
        // 2026-11-20T12:53:26Z
        Some(1_795_179_206_000_000_000),
    );
    let mut first = endpoint("10.244.1.5", "n1", [true, true, false]);
    let hints = Hints { zones: vec!["zone-1".into()], nodes: Vec::new() };
    first.hints = Some(hints.into());
    let manual = slice(
        "manual-1",
        "manual",
        vec![first, endpoint("10.244.2.5", "n2", [false, true, true])],
        vec![("http", Protocol::Tcp, 8080)],
        None,
    );
    let headless = ObjectKey::Slice(ObjectName::new("shop", "headless-g54lc"));
    assert_eq!(
        list::<wire::EndpointSlice>("list-endpointslices"),
        [
            Decoded::NotOurs(headless, NotOurs::Headless),
            Decoded::Ours(Object::Slice(manual)),
            Decoded::Ours(Object::Slice(web)),
        ]
    );
}

#[test]
fn the_listed_nodes_and_pods_are_understood() {
    let node = |name: &str, number: u8, zone: &str| {
        Decoded::Ours(Object::Node(Node {
            name: name.into(),
            addresses: vec![NodeAddress {
                kind: AddressKind::Internal,
                ip: [198, 18, 0, 10 + number].into(),
            }],
            pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
            labels: [
                ("kubernetes.io/hostname".into(), name.into()),
                ("topology.kubernetes.io/zone".into(), zone.into()),
            ]
            .into(),
            taints: vec!["node.kubernetes.io/unreachable".into()],
            deleting: false,
        }))
    };
    assert_eq!(
        list::<wire::Node>("list-nodes"),
        [node("n1", 1, "zone-9"), node("n2", 2, "zone-2")]
    );

    let pod = |name: &str, uid: &str, node: &str, ip: &str| {
        Decoded::Ours(Object::Pod(Pod {
            name: ObjectName::new("shop", name),
            uid: uid.into(),
            created: 1_795_179_157,
            node: Some(node.into()),
            ips: vec![ip.parse().unwrap()],
            host_network: false,
            finished: false,
            host_ports: vec![HostPort {
                host_ip: None,
                host_port: 9000,
                container_port: 9000,
                protocol: Protocol::Tcp,
            }],
            annotations: [].into(),
        }))
    };
    let (first, second) =
        ("0e2d6270-ecec-457c-bc90-ff74fbd96cc7", "0be2fca2-f99e-4945-abe9-226e156df89d");
    assert_eq!(
        list::<wire::Pod>("list-pods"),
        [
            pod("web-85c579b9b4-897jw", first, "n1", "10.244.1.9"),
            pod("web-85c579b9b4-cqpgs", second, "n2", "10.244.2.9"),
        ]
    );
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apiserver-1.36")
}

fn read(name: &str) -> String {
    fs::read_to_string(directory().join(format!("{name}.json"))).unwrap()
}

fn list<T: Wire + Clone>(name: &str) -> Vec<Decoded> {
    let list: ObjectList<T> = serde_json::from_str(&read(name)).unwrap();
    let mut decoder = Decoder::default();
    list.items.iter().map(|item| item.decode(&mut decoder).unwrap()).collect()
}

fn kubernetes() -> Service {
    Service {
        name: ObjectName::new("default", "kubernetes"),
        r#type: ServiceType::ClusterIp,
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        external_ips: Vec::new(),
        ingress: Vec::new(),
        ports: vec![ServicePort {
            name: "https".into(),
            protocol: Protocol::Tcp,
            port: 443,
            node_port: None,
        }],
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        affinity_timeout: None,
        load_balancer_class: None,
        source_ranges: Vec::new(),
        health_check_node_port: None,
        distribution: None,
        annotations: [].into(),
        cluster: Some("abcbd0a7-2a37-4d7d-a19d-bd1d56844aad".to_owned()),
    }
}

fn slice(
    name: &str,
    service: &str,
    endpoints: Vec<Endpoint>,
    ports: Vec<(&str, Protocol, u16)>,
    triggered: Option<i64>,
) -> EndpointSlice {
    let ports = ports.into_iter();
    EndpointSlice {
        name: ObjectName::new("shop", name),
        service: ObjectName::new("shop", service),
        ports: ports
            .map(|(name, protocol, port)| SlicePort { name: name.into(), protocol, port })
            .collect(),
        endpoints,
        triggered,
        annotations: [].into(),
    }
}

fn endpoint(ip: &str, node: &str, [ready, serving, terminating]: [bool; 3]) -> Endpoint {
    Endpoint {
        ip: ip.parse().unwrap(),
        ready,
        serving,
        terminating,
        node: Some(node.into()),
        hints: None,
    }
}
