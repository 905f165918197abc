// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;

use super::*;
use crate::model::NodeAddress;

fn node(name: &str, ips: &[&str], cidrs: &[&str]) -> Node {
    let internal = |ip: &&str| NodeAddress { kind: AddressKind::Internal, ip: ip.parse().unwrap() };
    Node {
        name: name.into(),
        addresses: ips.iter().map(internal).collect(),
        pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        labels: BTreeMap::new(),
        taints: vec![],
        deleting: false,
    }
}

fn links() -> [OnLink; 3] {
    [("10.9.0.1/16", 2), ("10.9.1.1/24", 3), ("fd09::1/64", 2)]
        .map(|(net, ifindex)| OnLink { net: net.parse().unwrap(), ifindex })
}

fn routes(nodes: &[Node]) -> (Vec<String>, Vec<String>) {
    let (table, problems) = desired("here", true, nodes, &links());
    let show = |(to, hop): (&IpNet, &NextHop)| match hop {
        NextHop::Gateway { via, ifindex } => format!("{to} via {via} dev {ifindex}"),
        NextHop::Unreachable => format!("{to} unreachable"),
    };
    let problems = problems.into_iter().map(|p| format!("{}: {}", p.subject, p.message));
    (table.iter().map(show).collect(), problems.collect())
}

#[test]
fn every_other_nodes_pods_are_reached_through_its_internal_ip() {
    let (routes, problems) = routes(&[
        node("here", &["10.9.0.1"], &["10.1.0.0/24"]),
        node("b", &["10.9.0.2", "fd09::2"], &["10.1.1.0/24", "fd01:1::/64"]),
    ]);
    assert_eq!(
        routes,
        [
            "10.1.0.0/24 unreachable",
            "10.1.1.0/24 via 10.9.0.2 dev 2",
            "fd01:1::/64 via fd09::2 dev 2"
        ]
    );
    assert!(problems.is_empty());
}

#[test]
fn without_direct_routes_only_our_own_pods_have_one() {
    let nodes = [
        node("here", &["10.9.0.1"], &["10.1.0.7/24", "fd01::/64"]),
        node("b", &["10.10.0.2"], &["10.1.1.0/24"]),
    ];
    let (table, problems) = desired("here", false, &nodes, &links());
    let own = ["10.1.0.0/24", "fd01::/64"].map(|to| (to.parse().unwrap(), NextHop::Unreachable));
    assert_eq!(table, Table::from(own));
    assert!(problems.is_empty());
}

#[test]
fn the_nearest_link_is_taken() {
    let (routes, _) = routes(&[node("b", &["10.9.1.2"], &["10.1.1.0/24"])]);
    assert_eq!(routes, ["10.1.1.0/24 via 10.9.1.2 dev 3"]);
}

#[test]
fn a_node_behind_a_router_is_reported() {
    let (routes, problems) = routes(&[node("b", &["10.10.0.2"], &["10.1.1.0/24"])]);
    assert!(routes.is_empty());
    assert!(
        problems[0].starts_with("Node b: InternalIP `10.10.0.2` is on no link"),
        "{problems:?}"
    );
}

#[test]
fn a_second_internal_ip_serves_when_the_first_is_not_a_neighbour() {
    let (routes, problems) = routes(&[node("b", &["10.10.0.2", "10.9.0.2"], &["10.1.1.0/24"])]);
    assert_eq!(routes, ["10.1.1.0/24 via 10.9.0.2 dev 2"]);
    assert!(problems.is_empty());
}

#[test]
fn a_cidr_without_an_address_of_its_family_is_reported() {
    let (routes, problems) = routes(&[node("b", &["10.9.0.2"], &["fd01:1::/64"])]);
    assert!(routes.is_empty());
    assert!(problems[0].contains("no IPv6 InternalIP"), "{problems:?}");
}

#[test]
fn cidrs_that_two_nodes_have_are_reported_and_our_own_pods_stay_ours() {
    let (routes, problems) = routes(&[
        node("c", &["10.9.0.3"], &["10.1.1.0/24"]),
        node("here", &["10.9.0.1"], &["10.1.0.0/24"]),
        node("b", &["10.9.0.2"], &["10.1.1.0/24", "10.1.0.0/16"]),
    ]);
    assert_eq!(routes, ["10.1.0.0/24 unreachable", "10.1.1.0/24 via 10.9.0.2 dev 2"]);
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("Node b: pod CIDR `10.1.0.0/16` overlaps"), "{problems:?}");
    assert!(
        problems[1].starts_with("Node c: pod CIDR `10.1.1.0/24` is Node `b`'s"),
        "{problems:?}"
    );
}

fn any_table() -> impl Strategy<Value = Table> {
    prop::collection::btree_map(0u8..8, (0u8..3, 1u32..3), 0..8).prop_map(|entries| {
        let route = |(net, (hop, ifindex)): (u8, (u8, u32))| {
            let to = format!("10.1.{net}.0/24").parse().unwrap();
            let via = IpAddr::from([10, 9, 0, hop]);
            let gateway = NextHop::Gateway { via, ifindex };
            (to, if hop == 0 { NextHop::Unreachable } else { gateway })
        };
        entries.into_iter().map(route).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_leads_to_what_is_desired(desired in any_table(), actual in any_table()) {
        let mut table = actual.clone();
        for write in plan(&desired, &actual) {
            match write {
                Write::Set { to, hop } => prop_assert_ne!(table.insert(to, hop), Some(hop)),
                Write::Remove { to, hop } => prop_assert_eq!(table.remove(&to), Some(hop)),
            };
        }
        prop_assert_eq!(&table, &desired);
        prop_assert_eq!(plan(&desired, &table), []);
    }
}

#[test]
fn pods_outside_what_the_network_routes_are_named() {
    let nodes = [
        node("a", &[], &["10.1.0.0/24", "fd01:1::/64"]),
        node("b", &[], &["10.2.0.0/24", "fd02:1::/64"]),
    ];
    let named = |native: &[&str]| -> Vec<String> {
        let native: Vec<IpNet> = native.iter().map(|net| net.parse().unwrap()).collect();
        let problems = outside_native(&nodes, &native).into_iter();
        problems.map(|p| format!("{}: {}", p.subject, p.message)).collect()
    };
    assert!(named(&[]).is_empty());
    assert!(named(&["10.0.0.0/8"]).is_empty(), "IPv6 is not judged by an IPv4 CIDR");
    assert_eq!(
        named(&["10.1.0.0/16", "fd01::/16"]),
        [
            "Node b: pod CIDR `10.2.0.0/24` lies outside `ipv4NativeRoutingCIDR`; widen that",
            "Node b: pod CIDR `fd02:1::/64` lies outside `ipv6NativeRoutingCIDR`; widen that",
        ]
    );
}
