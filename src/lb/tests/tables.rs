// SPDX-License-Identifier: Apache-2.0
//! Maglev tables: who shares them, where they lie, and that all nodes choose alike.

use std::collections::{BTreeMap, BTreeSet};

use super::support::{Kernel, endpoint, http, ip, name, service, slice};
use crate::abi::{Addr, SERVICE_MAGLEV, SERVICE_RANDOM, Service, ServiceKey};
use crate::lb::{Algorithm, Selection, maglev};
use crate::model::{Endpoint, Protocol, ServiceType, SlicePort};

/// Entries of the smallest table.
const TABLE: u32 = 750;

fn maglev(words: u32) -> Selection {
    Selection { algorithm: Algorithm::Maglev, seed: *b"twelve bytes", words }
}

/// A service `of` with NodePort `port` and these endpoints.
fn set(kernel: &mut Kernel, of: &str, port: u16, endpoints: Vec<Endpoint>) {
    let mut web = service(of, &[&format!("10.96.0.{}", port - 30000)]);
    web.r#type = ServiceType::NodePort;
    web.ports[0].node_port = Some(port);
    kernel.balancer.set_service(web);
    kernel.balancer.set_slice(slice(of, endpoints));
}

fn some(count: u8) -> Vec<Endpoint> {
    (1..=count).map(|n| endpoint(&format!("10.1.0.{n}"))).collect()
}

fn value(kernel: &Kernel, port: u16) -> Service {
    kernel.tables.services[&ServiceKey::new(Addr::V4_WILDCARD, port, 6)]
}

#[test]
fn every_node_gives_a_client_the_same_endpoint() {
    let endpoints = || {
        some(9).into_iter().enumerate().map(|(n, e)| e.on(if n % 3 == 0 { "one" } else { "two" }))
    };
    let choices = ["one", "two", "three"].map(|node| {
        let mut kernel = Kernel::choosing(64, maglev(TABLE), node);
        set(&mut kernel, "web", 30080, endpoints().collect());
        kernel.sync();
        let service = value(&kernel, 30080);
        let places = &kernel.tables.tables[&service.maglev_offset];
        let outside = kernel.outside(ServiceKey::new(Addr::V4_WILDCARD, 30080, 6));
        let chosen = (0..500_u16).map(|client| {
            let address = ip(&format!("192.0.2.{}", client % 250)).into();
            let hash = maglev::hash(b"twelve bytes", address, Some(40000 + client), 30080, 6);
            let place = maglev::place(hash, service.maglev_size);
            outside[usize::from(places[place as usize])].clone()
        });
        (outside.clone(), chosen.collect::<Vec<_>>())
    });
    assert_ne!(choices[0].0, choices[1].0, "slots are ordered for each node");
    assert_eq!(choices[0].1, choices[1].1);
    assert_eq!(choices[0].1, choices[2].1);
    let different: BTreeSet<&String> = choices[0].1.iter().collect();
    assert_eq!(different.len(), 9);
}

#[test]
fn equal_endpoints_share_a_table_and_one_endpoint_needs_none() {
    let mut kernel = Kernel::choosing(64, maglev(2 * TABLE), "here");
    set(&mut kernel, "a", 30001, some(3));
    set(&mut kernel, "b", 30002, some(3));
    set(&mut kernel, "c", 30003, some(4));
    set(&mut kernel, "d", 30004, some(1));
    kernel.sync();
    let [a, b, c, d] = [30001, 30002, 30003, 30004].map(|port| value(&kernel, port));
    assert_eq!((a.algorithm, a.maglev_offset), (b.algorithm, b.maglev_offset));
    assert_ne!(a.maglev_offset, c.maglev_offset);
    assert_eq!((c.algorithm, d.algorithm), (SERVICE_MAGLEV, SERVICE_RANDOM));
    assert!(kernel.balancer.problems().is_empty());
    let cluster_ip = kernel.tables.services[&ServiceKey::new(ip("10.96.0.1").into(), 80, 6)];
    assert_eq!(cluster_ip.algorithm, SERVICE_RANDOM, "clients inside choose by chance");
}

#[test]
fn each_port_of_the_endpoints_and_each_family_has_a_table_of_its_own() {
    let mut kernel = Kernel::choosing(64, maglev(10 * TABLE), "here");
    let mut web = service("web", &["10.96.0.1", "fd00:96::1"]);
    web.external_ips = vec![ip("192.0.2.1"), ip("2001:db8::1")];
    web.ports = vec![http("a", 80), http("b", 81), http("c", 82)];
    kernel.balancer.set_service(web);
    for (of, net) in [("web-4", "10.1.0."), ("web-6", "fd00:1::")] {
        let endpoints = (1..=3).map(|n| endpoint(&format!("{net}{n}"))).collect();
        let mut part = slice("web", endpoints);
        part.name = name(of);
        // The last two are one port of the endpoints.
        part.ports = [("a", 8080), ("b", 9090), ("c", 9090)]
            .map(|(name, port)| SlicePort { name: name.into(), protocol: Protocol::Tcp, port })
            .into();
        kernel.balancer.set_slice(part);
    }
    kernel.sync();
    let table = |address: &str, port| {
        let service = kernel.tables.services[&ServiceKey::new(ip(address).into(), port, 6)];
        assert_eq!(service.algorithm, SERVICE_MAGLEV);
        service.maglev_offset
    };
    let tables = ["192.0.2.1", "2001:db8::1"].map(|vip| [80, 81, 82].map(|port| table(vip, port)));
    assert_eq!(tables.iter().flatten().collect::<BTreeSet<_>>().len(), 4, "{tables:?}");
    assert_eq!(kernel.balancer.tables_in_use(), u64::from(4 * TABLE));
}

#[test]
fn a_service_says_by_itself_how_its_backends_are_chosen() {
    for (default, own, found) in [
        (Algorithm::Random, "maglev", SERVICE_MAGLEV),
        (Algorithm::Maglev, "random", SERVICE_RANDOM),
        (Algorithm::Maglev, "what?", SERVICE_MAGLEV),
    ] {
        let selection = Selection { algorithm: default, ..maglev(TABLE) };
        let mut kernel = Kernel::choosing(64, selection, "here");
        let mut web = service("web", &["10.96.0.1"]);
        web.external_ips = vec![ip("192.0.2.1")];
        web.annotations.insert("service.culvert.io/lb-algorithm".into(), own.into());
        kernel.balancer.set_service(web);
        kernel.balancer.set_slice(slice("web", some(2)));
        kernel.sync();
        let key = ServiceKey::new(ip("192.0.2.1").into(), 80, 6);
        assert_eq!(kernel.tables.services[&key].algorithm, found, "{default:?} {own:?}");
    }
}

#[test]
fn endpoints_have_the_weight_of_their_slice() {
    let mut kernel = Kernel::choosing(64, maglev(2 * TABLE), "here");
    set(&mut kernel, "web", 30080, vec![]);
    let mut set_slice = |number: u8, annotation: Option<(&str, &str)>| {
        let mut part = slice("web", vec![endpoint(&format!("10.1.0.{number}"))]);
        part.name = name(&format!("web-{number}"));
        part.annotations =
            annotation.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        kernel.balancer.set_slice(part);
        kernel.sync();
        let key = ServiceKey::new(Addr::V4_WILDCARD, 30080, 6);
        let service = value(&kernel, 30080);
        let mut parts = BTreeMap::new();
        if service.algorithm == SERVICE_MAGLEV {
            for place in &*kernel.tables.tables[&service.maglev_offset] {
                *parts.entry(kernel.outside(key)[usize::from(*place)].clone()).or_insert(0) += 1;
            }
        }
        let inside = kernel.inside(ServiceKey::new(ip("10.96.0.80").into(), 80, 6)).len();
        let said = kernel.balancer.problems().into_iter().map(|problem| problem.message);
        (parts.into_values().collect::<Vec<u32>>(), inside, said.collect::<Vec<_>>())
    };
    let near = |parts: &[u32], wanted: &[f64]| {
        parts.len() == wanted.len()
            && parts.iter().zip(wanted).all(|(part, wanted)| {
                (f64::from(*part) / f64::from(TABLE * 4) - wanted).abs() < 0.02
            })
    };
    set_slice(1, None);
    let (parts, ..) = set_slice(2, Some(("service.culvert.io/weight", "300")));
    assert!(near(&parts, &[0.25, 0.75]), "{parts:?}");
    let (parts, ..) = set_slice(3, Some(("service.cilium.io/weight", "100")));
    assert!(near(&parts, &[0.2, 0.6, 0.2]), "{parts:?}");

    let (parts, inside, said) = set_slice(2, Some(("service.cilium.io/weight", "0")));
    assert!(near(&parts, &[0.5, 0.5]), "{parts:?}");
    assert_eq!((inside, said), (3, vec![]), "clients inside choose by chance");

    let (parts, _, said) = set_slice(2, Some(("service.cilium.io/weight", "-1")));
    assert!(near(&parts, &[1.0 / 3.0; 3]), "{parts:?}");
    let start = "annotation `service.cilium.io/weight: -1` of EndpointSlice default/web-2 is not";
    assert!(said.len() == 1 && said[0].starts_with(start), "{said:?}");
}

#[test]
fn a_new_table_lies_elsewhere_and_the_old_place_is_used_again_after_the_grace_period() {
    let mut kernel = Kernel::choosing(64, maglev(2 * TABLE), "here");
    set(&mut kernel, "web", 30080, some(2));
    kernel.sync();
    let first = value(&kernel, 30080).maglev_offset;

    set(&mut kernel, "web", 30080, some(3));
    let plans = kernel.balancer.plan(9);
    assert_eq!((plans[0].tables.len(), &plans[0].released), (1, &vec![first]));
    let second = plans[0].tables[0].offset;
    assert_ne!(first, second);
    kernel.balancer.applied(&plans[0]);

    // Nothing is free yet.
    set(&mut kernel, "web", 30080, some(4));
    let plan = kernel.balancer.plan(9).remove(0);
    assert!(plan.tables.is_empty() && plan.released == [second]);
    kernel.balancer.applied(&plan);
    assert_eq!(kernel.balancer.problems()[0].subject, "Service default/web");
    assert!(kernel.balancer.problems()[0].message.contains("`maglev` is full"));

    kernel.balancer.release_tables(&[first]);
    let plan = kernel.balancer.plan(9).remove(0);
    assert_eq!(plan.tables[0].offset, first);
    assert!(kernel.balancer.problems().is_empty());
}

#[test]
fn a_restart_writes_no_table_again_and_frees_what_nobody_claims() {
    let mut kernel = Kernel::choosing(64, maglev(3 * TABLE), "here");
    set(&mut kernel, "a", 30001, some(2));
    set(&mut kernel, "b", 30002, some(3));
    kernel.sync();
    let (a, b) = (value(&kernel, 30001), value(&kernel, 30002));

    kernel.restart();
    set(&mut kernel, "b", 30002, some(3));
    assert!(kernel.balancer.plan(9).iter().all(|plan| plan.is_empty()));
    assert_eq!(value(&kernel, 30002), b);
    set(&mut kernel, "c", 30003, some(4));
    kernel.sync();
    assert_eq!(value(&kernel, 30003).maglev_offset, 2 * 4 * TABLE, "both others are in use");

    kernel.prune();
    set(&mut kernel, "d", 30004, some(5));
    kernel.sync();
    assert_eq!(value(&kernel, 30004).maglev_offset, a.maglev_offset);
}

#[test]
fn a_service_that_goes_gives_its_table_back() {
    let mut kernel = Kernel::choosing(64, maglev(TABLE), "here");
    for round in 0..3 {
        set(&mut kernel, "web", 30080, some(2 + round));
        kernel.sync();
        assert_eq!(value(&kernel, 30080).algorithm, SERVICE_MAGLEV, "round {round}");
        kernel.balancer.remove_service(&name("web"));
        kernel.sync();
    }
}

/// A tenth of the services in a tenth of the map's default size: tables lie back to back.
#[test]
fn ten_thousand_services_of_ten_endpoints_of_their_own_have_room() {
    const SERVICES: u32 = 10_000 / 10;
    let mut kernel = Kernel::choosing(1 << 14, maglev(7_900_000 / 10), "here");
    for number in 0..SERVICES {
        let of = format!("s{number}");
        let [_, a, b, c] = number.to_be_bytes();
        let mut web = service(&of, &[&format!("10.{a}.{b}.{c}")]);
        web.external_ips = vec![ip(&format!("172.{}.{b}.{c}", 16 + a))];
        kernel.balancer.set_service(web);
        let endpoint = |n| endpoint(&format!("100.{}.{b}.{c}", 64 + n));
        kernel.balancer.set_slice(slice(&of, (0..10).map(endpoint).collect()));
    }
    let plans = kernel.balancer.plan(usize::MAX);
    let offsets: BTreeSet<u32> =
        plans.iter().flat_map(|plan| &plan.tables).map(|table| table.offset).collect();
    assert_eq!(offsets.len(), SERVICES as usize);
    assert!(kernel.balancer.problems().is_empty());
    assert_eq!(kernel.balancer.tables_in_use(), u64::from(SERVICES * TABLE));
}
