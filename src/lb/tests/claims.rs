// SPDX-License-Identifier: Apache-2.0
//! Whose a frontend is that several ask for.

use super::key;
use super::support::*;
use crate::lb::Write;
use crate::model::{IngressAddress, Service, ServiceType};

#[test]
fn a_frontend_stays_with_its_owner_and_passes_on_when_the_owner_leaves() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(service("b", &["10.96.0.1"]));
    kernel.balancer.set_slice(slice("b", vec![endpoint("10.1.0.2")]));
    kernel.sync();
    kernel.balancer.set_service(service("a", &["10.96.0.1"]));
    kernel.balancer.set_slice(slice("a", vec![endpoint("10.1.0.1")]));
    kernel.sync();
    assert_eq!(kernel.inside(key("10.96.0.1", 80)), ["10.1.0.2:8080"]);
    let problems = kernel.balancer.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].subject, "Service default/a");
    assert!(problems[0].message.contains("`10.96.0.1:80/TCP` already belongs"), "{problems:?}");

    kernel.balancer.remove_service(&name("b"));
    kernel.sync();
    assert_eq!(kernel.inside(key("10.96.0.1", 80)), ["10.1.0.1:8080"]);
    assert!(kernel.balancer.problems().is_empty());
}

#[test]
fn of_two_new_claimants_the_first_by_name_wins() {
    let mut kernel = Kernel::new();
    for (name, address) in [("b", "10.1.0.2"), ("a", "10.1.0.1")] {
        kernel.balancer.set_service(service(name, &["10.96.0.1"]));
        kernel.balancer.set_slice(slice(name, vec![endpoint(address)]));
    }
    kernel.sync();
    assert_eq!(kernel.inside(key("10.96.0.1", 80)), ["10.1.0.1:8080"]);
}

fn external(of: &str, cluster_ip: &str, address: &str) -> Service {
    Service { external_ips: vec![ip(address)], ..service(of, &[cluster_ip]) }
}

fn balancer(of: &str, cluster_ip: &str, address: &str) -> Service {
    Service {
        r#type: ServiceType::LoadBalancer,
        ingress: vec![IngressAddress { ip: ip(address), proxied: false }],
        ..service(of, &[cluster_ip])
    }
}

/// Makes `services` known one after the other; each has the endpoint `10.1.0.N`.
fn serve(services: &[Service]) -> Kernel {
    let mut kernel = Kernel::new();
    for (number, service) in services.iter().enumerate() {
        kernel.balancer.set_service(service.clone());
        let address = format!("10.1.0.{}", number + 1);
        kernel.balancer.set_slice(slice(&service.name.name, vec![endpoint(&address)]));
        kernel.sync();
    }
    kernel
}

#[test]
fn an_external_ip_takes_no_cluster_ip_and_no_load_balancers_address_whoever_came_first() {
    let dns = service("dns", &["10.96.0.10"]);
    let shop = balancer("shop", "10.96.0.11", "192.0.2.1");
    for (victim, vip) in [(dns, "10.96.0.10"), (shop, "192.0.2.1")] {
        let thief = external("a-thief", "10.96.0.66", vip);
        let kernel = serve(&[victim.clone(), thief.clone()]);
        assert_eq!(kernel.inside(key(vip, 80)), ["10.1.0.1:8080"]);
        let mut kernel = serve(&[thief, victim.clone()]);
        assert_eq!(kernel.inside(key(vip, 80)), ["10.1.0.2:8080"]);
        let problem = kernel.balancer.problems().remove(0);
        assert_eq!(problem.subject, "Service default/a-thief", "{}", problem.message);

        kernel.balancer.remove_service(&victim.name);
        kernel.sync();
        assert_eq!(kernel.inside(key(vip, 80)), ["10.1.0.1:8080"], "nobody else asks");
    }
}

#[test]
fn an_owner_whose_claim_gets_weaker_gives_way_to_who_waits() {
    let first = balancer("b", "10.96.0.1", "192.0.2.1");
    let second = balancer("c", "10.96.0.2", "192.0.2.1");
    let mut kernel = serve(&[first, second]);
    let contested = key("192.0.2.1", 80);
    assert_eq!(kernel.inside(contested), ["10.1.0.1:8080"]);
    kernel.balancer.set_service(external("b", "10.96.0.1", "192.0.2.1"));
    kernel.sync();
    assert_eq!(kernel.inside(contested), ["10.1.0.2:8080"]);
}

#[test]
fn a_restart_gives_nobody_anothers_frontend_for_a_moment() {
    let thief = external("a-thief", "10.96.0.66", "10.96.0.10");
    let services = [service("dns", &["10.96.0.10"]), thief];
    let mut kernel = serve(&services);
    kernel.restart();
    for service in services {
        kernel.balancer.set_service(service);
    }
    for (name, address) in [("dns", "10.1.0.1"), ("a-thief", "10.1.0.2")] {
        kernel.balancer.set_slice(slice(name, vec![endpoint(address)]));
    }
    let contested = key("10.96.0.10", 80);
    while kernel.balancer.pending() > 0 {
        let plans = kernel.balancer.plan(1);
        for write in writes(&plans) {
            let touches = matches!(
                write,
                Write::Service { key, .. } | Write::RemoveService { key } if key == contested
            );
            assert!(!touches, "{write:?}");
        }
        kernel.apply(plans);
    }
    assert_eq!(kernel.inside(contested), ["10.1.0.1:8080"]);
}
