// SPDX-License-Identifier: Apache-2.0
//! Audits: every kind of difference is named, and nothing that is as it should be.

use super::support::*;
use crate::abi::{BackendKey, ServiceKey, TargetStatus, Vip};
use crate::lb::{Actual, Algorithm, Selection, Target};
use crate::model::{Change, IngressAddress, Kind, Object, Pod, ServiceType, TrafficPolicy};

fn differences(kernel: &Kernel, tables: &Actual) -> Vec<String> {
    let found = kernel.balancer.map_differences(tables, [], &[]).into_iter();
    found.map(|problem| format!("{}: {}", problem.subject, problem.message)).collect()
}

/// The tables are as the balancer believes, as far as it may believe anything.
pub(super) fn agrees(kernel: &Kernel) {
    assert_eq!(differences(kernel, &kernel.tables), Vec::<String>::new());
}

fn web() -> Kernel {
    let mut kernel = Kernel::new();
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::LoadBalancer;
    web.ingress = vec![IngressAddress { ip: ip("192.0.2.2"), proxied: false }];
    web.source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
    kernel.balancer.set_service(web);
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]));
    kernel.balancer.set_pod(pod("p", "10.1.0.7", None, 8080));
    kernel.sync();
    agrees(&kernel);
    kernel
}

#[test]
fn an_entry_that_is_missing_wrong_or_too_many_is_named() {
    type Break = fn(&mut Actual);
    let cases: &[(Break, &[&str])] = &[
        (
            |t| {
                t.services.remove(&ServiceKey::new(ip("10.96.0.1").into(), 80, 6));
            },
            &["`services` 10.96.0.1:80/TCP: the map lacks it"],
        ),
        (
            |t| t.services.values_mut().next().unwrap().generation = 9,
            &["`services` ", "the map holds generation 9 instead of 1"],
        ),
        (
            |t| {
                let value = *t.services.values().next().unwrap();
                t.services.insert(ServiceKey::new(ip("10.96.0.9").into(), 80, 6), value);
            },
            &["`services` 10.96.0.9:80/TCP: the map has it and nobody asked for it"],
        ),
        (
            |t| {
                t.backends.pop_first();
            },
            &["`backends` slot 0 of list ", "the map lacks it"],
        ),
        (
            |t| t.backends.values_mut().next().unwrap().port = 1.into(),
            &["`backends` slot 0 of list ", "the map holds 10.1.0.1:1 instead of 10.1.0.1:8080"],
        ),
        (
            |t| {
                let (key, value) = t.backends.last_key_value().unwrap();
                let (key, value) = (BackendKey { slot: 7, ..*key }, *value);
                t.backends.insert(key, value);
            },
            &["`backends` slot 7 of list ", "nobody asked for it"],
        ),
        (
            |t| t.targets.values_mut().next().unwrap().status = TargetStatus::Gone as u8,
            &["`target_state` index 0: the map holds status 3 instead of 1"],
        ),
        (
            |t| {
                t.targets.remove(&0);
            },
            &["`target_state` index 0: the map lacks it"],
        ),
        (
            |t| {
                let state = *t.targets.values().next().unwrap();
                t.targets.insert(900, state);
            },
            &["`target_state` index 900: the map has it"],
        ),
        (
            |t| {
                t.vips.remove(&ip("10.96.0.1").into());
            },
            &["`vips` 10.96.0.1: the map lacks it"],
        ),
        (
            |t| t.vips.values_mut().for_each(|vip| vip.flags |= 4),
            &["`vips` ", "the map holds flags "],
        ),
        (
            |t| {
                t.vips.insert(ip("198.51.100.1").into(), Vip { flags: 1, pad: 0 });
            },
            &["`vips` 198.51.100.1: the map has it"],
        ),
        (
            |t| t.source_ranges.clear(),
            &["`source_ranges` 203.0.113.0/24 of list ", "(Service default/web)", "lacks it"],
        ),
        (|t| t.host_ports = 0, &["`settings` host_ports: the map holds 0 instead of 1"]),
    ];
    for (number, (break_it, words)) in cases.iter().enumerate() {
        let kernel = web();
        let mut tables = kernel.tables.clone();
        break_it(&mut tables);
        let found = differences(&kernel, &tables);
        assert!(!found.is_empty(), "case {number}");
        for word in *words {
            assert!(found.iter().any(|line| line.contains(word)), "case {number}: {found:?}");
        }
    }
}

#[test]
fn a_maglev_table_that_is_not_as_written_is_named() {
    let selection = Selection { algorithm: Algorithm::Maglev, words: 750, ..Selection::default() };
    let mut kernel = Kernel::choosing(1024, selection, "here");
    let mut web = service("web", &["10.96.0.1"]);
    web.external_ips = vec![ip("192.0.2.1")];
    kernel.balancer.set_service(web);
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]));
    kernel.sync();
    agrees(&kernel);
    let mut tables = kernel.tables.clone();
    let places = tables.tables.values_mut().next().unwrap();
    let mut broken = places.to_vec();
    broken[7] ^= 1;
    *places = broken.into();
    let named =
        "`maglev` from slot 0 (Service default/web): the table's slots are not what was written";
    assert_eq!(differences(&kernel, &tables), [named]);
}

#[test]
fn what_is_on_its_way_is_no_difference() {
    let mut kernel = web();
    // Slots in their grace period.
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.3")]));
    let plans = kernel.balancer.plan(9);
    let leaving: Vec<BackendKey> = plans
        .iter()
        .flat_map(|plan| &plan.later)
        .filter_map(|write| match write {
            crate::lb::Write::RemoveBackend { key } => Some(*key),
            _ => None,
        })
        .collect();
    let old = kernel.tables.backends.clone();
    kernel.apply(plans);
    let mut tables = kernel.tables.clone();
    tables.backends.extend(old);
    assert_eq!(differences(&kernel, &tables).len(), 2, "two slots that nobody owns");
    assert_eq!(kernel.balancer.map_differences(&tables, leaving, &[]), []);

    // Changes that are not planned yet, and writes that failed half-way.
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.4")]));
    agrees(&kernel);
    let plans = kernel.balancer.plan(9);
    writes(&plans).into_iter().take(3).for_each(|write| kernel.write(write));
    plans.into_iter().for_each(|plan| kernel.balancer.failed(plan));
    agrees(&kernel);

    // A SNAT address's target is nobody's service.
    let mut kernel = web();
    let (target, write) = kernel.balancer.reserve_target().unwrap();
    kernel.write(write);
    assert_eq!(differences(&kernel, &kernel.tables).len(), 1);
    assert_eq!(kernel.balancer.map_differences(&kernel.tables, [], &[target]), []);
    let other = Target { epoch: 9, ..target };
    assert_eq!(kernel.balancer.map_differences(&kernel.tables, [], &[other]).len(), 1);
}

#[test]
fn what_an_earlier_agent_left_is_judged_once_it_is_somebodys_or_nobodys() {
    let mut kernel = web();
    let objects = (kernel.balancer.objects().service(&name("web")).cloned().unwrap(), ());
    kernel.restart();
    kernel.balancer.set_service(objects.0);
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]));
    kernel.sync();
    agrees(&kernel);
    // The pods are not known yet: their hostPorts stay, and are no difference.
    let plan = kernel.balancer.prune(false);
    kernel.apply(vec![plan]);
    agrees(&kernel);
    kernel.prune();
    agrees(&kernel);
}

#[test]
fn objects_that_the_source_has_otherwise_are_named() {
    let kernel = web();
    let ours = kernel.balancer.objects().service(&name("web")).cloned().unwrap();
    let mut other = ours.clone();
    other.external_policy = TrafficPolicy::Local;
    let same = slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]);
    let of = |lists: &[Change]| -> Vec<String> {
        let found = kernel.balancer.source_differences(lists).into_iter();
        found.map(|(_, problem)| format!("{}: {}", problem.subject, problem.message)).collect()
    };
    let services = |all: Vec<crate::model::Service>| {
        Change::Listed(Kind::Service, all.into_iter().map(Object::Service).collect())
    };
    let slices = |all: Vec<crate::model::EndpointSlice>| {
        Change::Listed(Kind::EndpointSlice, all.into_iter().map(Object::Slice).collect())
    };
    let pods =
        |all: Vec<Pod>| Change::Listed(Kind::Pod, all.into_iter().map(Object::Pod).collect());

    let known = pod("p", "10.1.0.7", None, 8080);
    let plain = Pod { host_ports: vec![], ..pod("plain", "10.1.0.8", None, 1) };
    let agreed = [
        services(vec![ours.clone()]),
        slices(vec![same.clone()]),
        pods(vec![known.clone(), plain]),
    ];
    assert_eq!(of(&agreed), Vec::<String>::new());
    assert_eq!(
        of(&[services(vec![other])]),
        ["Service default/web: the source has another version of it: external_policy differ"]
    );
    let mut new = ours.clone();
    new.name = name("new");
    assert_eq!(
        of(&[services(vec![ours, new])]),
        ["Service default/new: the source has it and the agent does not know it"]
    );
    let gone = "the agent knows it and the source does not have it";
    assert_eq!(of(&[slices(vec![])]), [format!("EndpointSlice default/web: {gone}")]);
    assert_eq!(of(&[pods(vec![])]), [format!("Pod default/p: {gone}")]);
    let moved = slice("web", vec![endpoint("10.1.0.9")]);
    assert_eq!(
        of(&[slices(vec![moved])]),
        ["EndpointSlice default/web: the source has another version of it: endpoints differ"]
    );
    let older = Pod { created: -1, ..known };
    assert!(of(&[pods(vec![older])])[0].contains("created differ"));
}
