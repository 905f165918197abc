// SPDX-License-Identifier: Apache-2.0
//! Single behaviours of the balancer; `random` holds the properties.

mod annotations;
mod audit;
mod claims;
mod endpoints;
mod explain;
mod forwarding;
mod health;
mod host_ports;
mod random;
mod restart;
mod scale;
mod serve;
mod support;
mod tables;
mod topology;
mod world;

use crate::abi::{
    Addr, BACKEND_LOCAL, BACKEND_NOT_READY, BACKEND_TERMINATING, SERVICE_AFFINITY,
    SERVICE_HAS_ENDPOINTS, ServiceKey, ServiceKind, TargetStatus,
};
use crate::model::{IngressAddress, Protocol, ServiceType, TrafficPolicy};

use super::*;
use support::{Kernel, endpoint, ip, name, service, slice};

const TCP: u8 = 6;

fn key(vip: &str, port: u16) -> ServiceKey {
    ServiceKey::new(ip(vip).into(), port, TCP)
}

#[test]
fn a_cluster_ip_leads_to_its_endpoints() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.2"), endpoint("10.1.0.1")]));
    kernel.sync();
    assert_eq!(kernel.inside(key("10.96.0.1", 80)), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    assert!(kernel.outside(key("10.96.0.1", 80)).is_empty());
    assert_eq!(kernel.tables.services[&key("10.96.0.1", 80)].flags, SERVICE_HAS_ENDPOINTS);
}

#[test]
fn a_service_without_endpoints_keeps_its_frontends() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    kernel.sync();
    let value = kernel.tables.services[&key("10.96.0.1", 80)];
    assert_eq!((value.inside.count, value.flags), (0, 0));
}

#[test]
fn every_kind_of_frontend_is_written_for_each_family() {
    let mut kernel = Kernel::new();
    let mut web = service("web", &["10.96.0.1", "fd00::1"]);
    web.r#type = ServiceType::LoadBalancer;
    web.ports[0].node_port = Some(30080);
    web.external_ips = vec![ip("192.0.2.1"), ip("192.0.2.4")];
    web.ingress = ["192.0.2.2", "2001:db8::2", "192.0.2.1"]
        .map(|text| IngressAddress { ip: ip(text), proxied: false })
        .to_vec();
    web.ingress.push(IngressAddress { ip: ip("192.0.2.3"), proxied: true });
    web.affinity_timeout = Some(60);
    kernel.balancer.set_service(web);
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1")]));
    kernel.balancer.set_slice(slice("web-6", vec![endpoint("fd01::1")]).of("web"));
    kernel.sync();

    let found: Vec<(String, u16, &str)> = kernel
        .tables
        .services
        .iter()
        .map(|(key, value)| {
            assert_eq!(value.flags, SERVICE_HAS_ENDPOINTS | SERVICE_AFFINITY);
            assert_eq!(value.affinity_timeout, 56); // ticks of 1.07 s
            let kind = ServiceKind::from_number(value.kind).unwrap();
            (key.vip.to_string(), key.port.get(), kind.name())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("::".into(), 30080, "NodePort"),
            ("0.0.0.0".into(), 30080, "NodePort"),
            ("10.96.0.1".into(), 80, "ClusterIP"),
            ("192.0.2.1".into(), 80, "LoadBalancer"),
            ("192.0.2.2".into(), 80, "LoadBalancer"),
            ("192.0.2.4".into(), 80, "ExternalIPs"),
            ("2001:db8::2".into(), 80, "LoadBalancer"),
            ("fd00::1".into(), 80, "ClusterIP"),
        ]
    );
    assert_eq!(kernel.outside(ServiceKey::new(Addr::V6_WILDCARD, 30080, TCP)), ["[fd01::1]:8080"]);
    assert_eq!(kernel.outside(key("192.0.2.1", 80)), ["10.1.0.1:8080"]);
    let totals = kernel.balancer.totals();
    assert_eq!(totals.frontends, [2, 2, 1, 3, 0]);
    assert_eq!(kernel.balancer.vips_in_use(), kernel.tables.vips.len() as u64);
}

#[test]
fn policy_local_hides_the_other_nodes_from_outside_clients_only() {
    let mut kernel = Kernel::new();
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::NodePort;
    web.ports[0].node_port = Some(30080);
    web.external_policy = TrafficPolicy::Local;
    kernel.balancer.set_service(web.clone());
    let here = endpoint("10.1.0.1").on("here");
    kernel.balancer.set_slice(slice("web", vec![here, endpoint("10.2.0.1").on("there")]));
    kernel.sync();
    let node_port = ServiceKey::new(Addr::V4_WILDCARD, 30080, TCP);
    assert_eq!(kernel.outside(node_port), ["10.1.0.1:8080"]);
    assert_eq!(kernel.inside(node_port), ["10.1.0.1:8080", "10.2.0.1:8080"]);
    assert_eq!(kernel.inside(key("10.96.0.1", 80)), ["10.1.0.1:8080", "10.2.0.1:8080"]);

    web.internal_policy = TrafficPolicy::Local;
    kernel.balancer.set_service(web);
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.2.0.1").on("there")]));
    kernel.sync();
    assert!(kernel.outside(node_port).is_empty());
    assert!(kernel.inside(key("10.96.0.1", 80)).is_empty());
    assert_eq!(kernel.tables.services[&node_port].flags, SERVICE_HAS_ENDPOINTS, "dropped");
    let totals = kernel.balancer.totals();
    assert_eq!((totals.no_local_internal, totals.no_local_external), ([1, 0], [1, 0]));
}

#[test]
fn a_change_of_one_service_writes_nothing_for_another() {
    let mut kernel = Kernel::new();
    for (name, vip) in [("a", "10.96.0.1"), ("b", "10.96.0.2")] {
        kernel.balancer.set_service(service(name, &[vip]));
        kernel.balancer.set_slice(slice(name, vec![endpoint("10.1.0.1")]));
    }
    kernel.sync();
    kernel.balancer.set_slice(slice("b", vec![endpoint("10.1.0.2")]));
    let plans = kernel.balancer.plan(10);
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].owner, Some(name("b").into()));
}

#[test]
fn an_unchanged_object_is_no_change() {
    let mut kernel = Kernel::new();
    assert!(kernel.balancer.set_service(service("a", &["10.96.0.1"])));
    assert!(!kernel.balancer.set_service(service("a", &["10.96.0.1"])));
    assert!(kernel.balancer.set_slice(slice("a", vec![])));
    assert!(!kernel.balancer.set_slice(slice("a", vec![])));
    assert_eq!(kernel.balancer.list_slices(vec![slice("a", vec![])]), 0);
    assert_eq!(kernel.balancer.list_services(vec![]), 1);
}

#[test]
fn a_frontend_moves_to_another_port_of_its_service_without_a_gap() {
    let mut kernel = Kernel::new();
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::NodePort;
    web.ports[0].node_port = Some(30080);
    kernel.balancer.set_service(web.clone());
    kernel.sync();
    web.ports[0].port = 81;
    kernel.balancer.set_service(web);
    let plans = kernel.balancer.plan(10);
    assert_eq!(plans[0].remove, [Write::RemoveService { key: key("10.96.0.1", 80) }]);
    assert_eq!(plans[0].flip.len(), 2);
}

#[test]
fn old_slots_are_removed_only_in_the_last_phase() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1")]));
    kernel.sync();
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.2")]));
    let plan = kernel.balancer.plan(1).remove(0);
    let removal = |write: &Write| matches!(write, Write::RemoveBackend { .. });
    assert_eq!(plan.later.len(), 1);
    assert!(plan.later.iter().all(removal));
    assert!(!plan.prepare.iter().chain(&plan.flip).chain(&plan.gone).any(removal));
}

#[test]
fn a_target_outlives_a_change_of_its_neighbours() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]));
    kernel.sync();
    let target = kernel.target("10.1.0.2");
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.2"), endpoint("10.1.0.3")]));
    kernel.sync();
    assert_eq!(kernel.target("10.1.0.2"), target);
}

#[test]
fn endpoints_without_a_target_are_reported_and_served_when_one_is_free() {
    let mut kernel = Kernel::with_targets(1);
    for (name, vip, address) in [("a", "10.96.0.1", "10.1.0.1"), ("b", "10.96.0.2", "10.1.0.2")] {
        kernel.balancer.set_service(service(name, &[vip]));
        kernel.balancer.set_slice(slice(name, vec![endpoint(address)]));
    }
    kernel.sync();
    assert!(kernel.inside(key("10.96.0.2", 80)).is_empty());
    assert_eq!(kernel.balancer.problems()[0].subject, "Service default/b");

    kernel.balancer.remove_service(&name("a"));
    kernel.sync();
    assert_eq!(kernel.inside(key("10.96.0.2", 80)), ["10.1.0.2:8080"]);
    assert!(kernel.balancer.problems().is_empty());
    assert_eq!(kernel.tables.targets[&0].epoch, 2, "an old flow must not come back to life");
}

#[test]
fn trigger_times_belong_to_changes_and_not_to_lists() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    let mut first = slice("web", vec![endpoint("10.1.0.1")]);
    first.triggered = Some(1);
    kernel.balancer.list_slices(vec![first.clone()]);
    assert_eq!(kernel.balancer.plan(1)[0].triggered, []);
    first.triggered = Some(2);
    kernel.balancer.set_slice(first.clone());
    assert_eq!(kernel.balancer.plan(1)[0].triggered, [Trigger { at: 2, v6: false }]);
    first.endpoints.clear();
    kernel.balancer.set_slice(first);
    assert_eq!(kernel.balancer.plan(1)[0].triggered, [], "the same trigger");
}
