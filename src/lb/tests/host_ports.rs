// SPDX-License-Identifier: Apache-2.0
//! hostPorts: whose they are, and which are refused.

use super::support::*;
use crate::abi::{Addr, SERVICE_HAS_ENDPOINTS, ServiceKey, ServiceKind};
use crate::lb::{Context, Serve};
use crate::model::{Pod, Protocol};

fn wildcard(port: u16) -> ServiceKey {
    ServiceKey::new(Addr::V4_WILDCARD, port, 6)
}

fn problems(kernel: &Kernel) -> Vec<String> {
    let all = kernel.balancer.problems().into_iter();
    all.map(|problem| format!("{}: {}", problem.subject, problem.message)).collect()
}

#[test]
fn the_newest_live_pod_has_it_and_its_predecessors_end_changes_nothing() {
    let mut kernel = Kernel::new();
    let old = Pod { created: 1, ..pod("z-old", "10.1.0.1", None, 8080) };
    let new = Pod { created: 2, ..pod("a-new", "10.1.0.2", None, 8080) };
    // Whichever is heard of first.
    for order in [[&old, &new], [&new, &old]] {
        kernel = Kernel::new();
        for pod in order {
            kernel.balancer.set_pod(pod.clone());
            kernel.sync();
        }
        assert_eq!(kernel.inside(wildcard(8080)), ["10.1.0.2:80"]);
        assert_eq!(kernel.outside(wildcard(8080)), ["10.1.0.2:80"]);
    }
    let value = kernel.tables.services[&wildcard(8080)];
    assert_eq!((value.kind, value.flags), (ServiceKind::HostPort as u8, SERVICE_HAS_ENDPOINTS));
    assert_eq!(kernel.tables.host_ports, 1);

    kernel.balancer.set_pod(Pod { finished: true, ..old });
    assert_eq!(kernel.sync(), []);
    assert_eq!(kernel.inside(wildcard(8080)), ["10.1.0.2:80"]);
    kernel.balancer.remove_pod(&name("z-old"));
    kernel.sync();
    assert_eq!(kernel.inside(wildcard(8080)), ["10.1.0.2:80"]);

    kernel.balancer.remove_pod(&name("a-new"));
    assert_eq!(kernel.sync().len(), 1, "its UDP clients must choose again");
    assert!(kernel.tables.services.is_empty() && kernel.tables.host_ports == 0);
}

#[test]
fn of_two_pods_as_old_as_each_other_the_greater_uid_has_it() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_pod(pod("a", "10.1.0.1", None, 8080));
    kernel.balancer.set_pod(pod("b", "10.1.0.2", None, 8080));
    kernel.sync();
    assert_eq!(kernel.inside(wildcard(8080)), ["10.1.0.2:80"]);
}

#[test]
fn only_this_nodes_pods_with_a_network_of_their_own_have_one() {
    let mut kernel = Kernel::new();
    let ours = pod("web", "10.1.0.1", None, 8080);
    for pod in [
        Pod { node: Some("there".into()), ..ours.clone() },
        Pod { host_network: true, ..ours.clone() },
        Pod { finished: true, ..ours.clone() },
        Pod { ips: vec![], ..ours.clone() },
    ] {
        kernel.balancer.set_pod(pod);
        kernel.sync();
        assert!(kernel.tables.services.is_empty());
    }
    kernel.balancer.set_pod(ours);
    kernel.sync();
    assert_eq!(kernel.tables.services.len(), 1);
}

#[test]
fn a_host_ip_is_one_address_and_the_unspecified_one_is_its_family() {
    let mut kernel = Kernel::new();
    let dual = |host_ip| Pod {
        ips: vec![ip("10.1.0.1"), ip("fd01::1")],
        ..pod("web", "10.1.0.1", host_ip, 8080)
    };
    let mut keys = |host_ip| {
        kernel.balancer.set_pod(dual(host_ip));
        kernel.sync();
        let vips: Vec<String> = kernel.tables.vips.keys().map(Addr::to_string).collect();
        let keys: Vec<String> = kernel.tables.services.keys().map(|k| k.vip.to_string()).collect();
        (keys.join(" "), vips.join(" "), kernel.tables.host_ports)
    };
    let (none, both) = (String::new(), ":: 0.0.0.0".to_owned());
    assert_eq!(keys(None), (both, none.clone(), 2));
    assert_eq!(keys(Some("0.0.0.0")), ("0.0.0.0".into(), none.clone(), 1));
    assert_eq!(keys(Some("::")), ("::".into(), none, 1));
    assert_eq!(keys(Some("192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into(), 0));
}

#[test]
fn one_port_is_another_hosts_or_protocols_for_each_pod() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_pod(pod("loop", "10.1.0.1", Some("127.0.0.1"), 8080));
    kernel.balancer.set_pod(pod("tcp", "10.1.0.2", Some("192.0.2.1"), 8080));
    for (of, address, protocol) in
        [("udp", "10.1.0.3", Protocol::Udp), ("sctp", "10.1.0.4", Protocol::Sctp)]
    {
        let mut other = pod(of, address, Some("192.0.2.1"), 8080);
        other.host_ports[0].protocol = protocol;
        kernel.balancer.set_pod(other);
    }
    kernel.sync();
    let at = |host: &str, proto| ServiceKey::new(ip(host).into(), 8080, proto);
    for (proto, expected) in [(6, "10.1.0.2:80"), (17, "10.1.0.3:80"), (132, "10.1.0.4:80")] {
        assert_eq!(kernel.outside(at("192.0.2.1", proto)), [expected]);
    }
    let loopback = at("127.0.0.1", 6);
    assert_eq!(kernel.inside(loopback), ["10.1.0.1:80"]);
    assert!(kernel.outside(loopback).is_empty(), "a packet that names loopback is a lie");
}

#[test]
fn pods_of_which_nothing_tells_the_age_keep_to_their_own() {
    let mut kernel = Kernel::new();
    let of = |name, address| Pod { uid: String::new(), ..pod(name, address, None, 8080) };
    kernel.balancer.set_pod(of("b", "10.1.0.2"));
    kernel.balancer.set_pod(of("a", "10.1.0.1"));
    kernel.sync();
    assert_eq!(kernel.inside(wildcard(8080)), ["10.1.0.2:80"]);
    kernel.balancer.remove_pod(&name("b"));
    kernel.sync();
    assert_eq!(kernel.inside(wildcard(8080)), ["10.1.0.1:80"], "the other one still asks");
}

#[test]
fn what_cannot_be_served_is_named_with_its_pod() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_pod(pod("range", "10.1.0.1", None, 30080));
    kernel.sync();
    assert!(kernel.tables.services.is_empty());
    let [range] = <[String; 1]>::try_from(problems(&kernel)).unwrap();
    assert!(range.starts_with("Pod default/range: hostPort `*:30080/TCP` is not"), "{range}");
    assert!(range.contains("nodePort.range"), "{range}");

    let serve = Serve { host_ports: false, ..Context::of("here").serve };
    kernel.balancer.set_context(Context { serve, ..Context::of("here") });
    assert_eq!(problems(&kernel), [] as [String; 0], "nobody asked for hostPorts");
}

#[test]
fn a_services_address_is_never_a_host_ports_whoever_came_first() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_pod(pod("web", "10.1.0.9", Some("192.0.2.1"), 80));
    kernel.sync();
    let key = ServiceKey::new(ip("192.0.2.1").into(), 80, 6);
    assert_eq!(kernel.inside(key), ["10.1.0.9:80"]);

    let mut external = service("shop", &["10.96.0.1"]);
    external.external_ips = vec![ip("192.0.2.1")];
    kernel.balancer.set_service(external);
    kernel.balancer.set_slice(slice("shop", vec![endpoint("10.1.0.1")]));
    kernel.sync();
    assert_eq!(kernel.inside(key), ["10.1.0.1:8080"]);
    assert_eq!(kernel.tables.backends.len(), 1, "nothing is left of the hostPort");
    let [problem] = <[String; 1]>::try_from(problems(&kernel)).unwrap();
    assert!(
        problem.starts_with(
            "Pod default/web: `192.0.2.1:80/TCP` already belongs to Service default/shop"
        ),
        "{problem}"
    );

    kernel.balancer.remove_service(&name("shop"));
    kernel.sync();
    assert_eq!(kernel.inside(key), ["10.1.0.9:80"], "it comes back");
}

#[test]
fn an_earlier_agents_host_ports_stay_until_the_pods_are_known() {
    let mut kernel = Kernel::new();
    for (of, host_ip, port) in [("a", None, 8080), ("b", Some("192.0.2.1"), 81), ("c", None, 82)] {
        kernel.balancer.set_pod(pod(of, &format!("10.1.0.{}", port % 250), host_ip, port));
    }
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    kernel.sync();
    let before = kernel.tables.clone();

    kernel.restart();
    let plan = kernel.balancer.prune(false);
    kernel.apply(vec![plan]);
    let host_ports = |tables: &crate::lb::Actual| {
        let kinds = tables.services.values().map(|value| value.kind);
        kinds.filter(|kind| *kind == ServiceKind::HostPort as u8).count()
    };
    assert_eq!((kernel.tables.services.len(), host_ports(&kernel.tables)), (3, 3));
    assert_eq!((kernel.tables.vips.len(), kernel.tables.host_ports), (1, 2));
    assert_eq!(kernel.tables.backends, before.backends);

    kernel.balancer.set_pod(pod("a", "10.1.0.80", None, 8080));
    kernel.sync();
    kernel.prune();
    assert_eq!(host_ports(&kernel.tables), 1);
    assert!(kernel.tables.vips.is_empty() && kernel.tables.host_ports == 1);
    let id = before.services[&wildcard(8080)].id;
    assert_eq!(kernel.tables.services[&wildcard(8080)].id, id);
}
