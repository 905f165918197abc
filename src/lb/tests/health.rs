// SPDX-License-Identifier: Apache-2.0
//! Health check ports.

use super::support::{Kernel, endpoint, ip, name, service, slice};
use crate::abi::ServiceKey;
use crate::lb::{Balancer, Context};
use crate::model::{Endpoint, IngressAddress, Service, ServiceType, TrafficPolicy};

fn checked() -> Service {
    Service {
        r#type: ServiceType::LoadBalancer,
        external_policy: TrafficPolicy::Local,
        health_check_node_port: Some(32000),
        ..service("web", &["10.96.0.1", "fd96::1"])
    }
}

#[test]
fn ready_endpoints_of_this_node_count_once_and_by_family() {
    let mut balancer = Balancer::new(Context::of("here"), 64);
    balancer.set_service(checked());
    let here = |address| endpoint(address).on("here");
    // One is in both slices, as while an endpoint moves from one to the other.
    let v4 = vec![here("10.1.0.1"), here("10.1.0.2").terminating(), endpoint("10.1.0.3")];
    balancer.set_slice(slice("web-1", v4).of("web"));
    balancer.set_slice(slice("web-2", vec![here("10.1.0.1"), here("10.1.0.4")]).of("web"));
    balancer.set_slice(slice("web-v6", vec![here("fd00::1")]).of("web"));
    let checks = balancer.health_checks();
    assert_eq!(checks.len(), 1);
    assert_eq!((&checks[0].service, checks[0].port), (&name("web"), 32000));
    assert_eq!(checks[0].local_endpoints, 2);
}

#[test]
fn a_terminating_endpoint_counts_only_where_it_is_published_as_ready() {
    let mut balancer = Balancer::new(Context::of("here"), 64);
    balancer.set_service(checked());
    let ends = endpoint("10.1.0.1").on("here").terminating();
    let published = Endpoint { ready: true, ..ends.clone() };
    for (endpoint, count) in [(ends, 0), (published, 1)] {
        balancer.set_slice(slice("web", vec![endpoint]));
        assert_eq!(balancer.health_checks()[0].local_endpoints, count);
    }
}

#[test]
fn only_local_load_balancers_are_asked_about() {
    for (change, asked) in [
        ((|_| ()) as fn(&mut Service), 1),
        (|service| service.external_policy = TrafficPolicy::Cluster, 0),
        (|service| service.r#type = ServiceType::NodePort, 0),
        (|service| service.health_check_node_port = None, 0),
    ] {
        let mut balancer = Balancer::new(Context::of("here"), 64);
        balancer.set_service(checked());
        let mut service = checked();
        change(&mut service);
        balancer.set_service(service);
        assert_eq!(balancer.health_checks().len(), asked);
        balancer.remove_service(&name("web"));
        assert_eq!(balancer.health_checks(), []);
    }
}

#[test]
fn what_an_earlier_agent_answered_stays_until_the_node_is_known() {
    let ingress = vec![IngressAddress { ip: ip("192.0.2.1"), proxied: false }];
    let key = ServiceKey::new(ip("192.0.2.1").into(), 32000, 6);
    for goes in [false, true] {
        let mut kernel = Kernel::new();
        kernel.balancer.set_service(Service { ingress: ingress.clone(), ..checked() });
        kernel.sync();
        assert_eq!(kernel.outside(key), ["10.9.0.1:32000"]);
        let before = kernel.tables.clone();

        let known = std::mem::replace(&mut kernel.context, Context::of("here"));
        kernel.restart();
        if !goes {
            kernel.balancer.set_service(Service { ingress: ingress.clone(), ..checked() });
        }
        kernel.sync();
        kernel.prune();
        assert_eq!(kernel.tables.services.contains_key(&key), !goes);
        kernel.balancer.set_context(known);
        kernel.sync();
        kernel.prune();
        if goes {
            assert!(kernel.tables.services.is_empty() && kernel.tables.vips.is_empty());
        } else {
            assert_eq!(kernel.tables, before);
        }
    }
}
