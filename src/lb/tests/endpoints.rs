// SPDX-License-Identifier: Apache-2.0
//! Which endpoints of which slices serve.

use super::support::*;
use super::*;

#[test]
fn terminating_endpoints_serve_only_where_no_ready_one_is_left() {
    let mut kernel = Kernel::new();
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::NodePort;
    web.ports[0].node_port = Some(30080);
    web.external_policy = TrafficPolicy::Local;
    kernel.balancer.set_service(web);
    let leaving = endpoint("10.1.0.1").on("here").terminating();
    kernel.balancer.set_slice(slice("web", vec![leaving.clone(), endpoint("10.2.0.1")]));
    kernel.sync();
    let node_port = ServiceKey::new(Addr::V4_WILDCARD, 30080, TCP);
    assert_eq!(kernel.outside(node_port), ["10.1.0.1:8080"], "the last one of this node");
    assert_eq!(kernel.inside(node_port), ["10.2.0.1:8080"]);
    let slot = kernel.tables.backends.values().next().unwrap();
    assert_eq!(slot.flags, BACKEND_LOCAL | BACKEND_TERMINATING);
    let status = kernel.tables.targets[&slot.target].status;
    assert_eq!(status, TargetStatus::Terminating as u8);

    let other = endpoint("10.2.0.1").terminating();
    kernel.balancer.set_slice(slice("web", vec![leaving, other]));
    kernel.sync();
    assert_eq!(kernel.inside(node_port), ["10.1.0.1:8080", "10.2.0.1:8080"]);
}

#[test]
fn an_endpoint_that_is_not_ready_keeps_its_tcp_connections_but_not_its_udp_clients() {
    for (protocol, kept) in [(Protocol::Tcp, true), (Protocol::Udp, false)] {
        let mut kernel = Kernel::new();
        let mut web = service("web", &["10.96.0.1"]);
        web.ports[0].protocol = protocol;
        kernel.balancer.set_service(web);
        let mut both = slice("web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]);
        both.ports[0].protocol = protocol;
        kernel.balancer.set_slice(both.clone());
        kernel.sync();
        let target = kernel.target("10.1.0.1");

        both.endpoints[0].ready = false;
        both.endpoints[0].serving = false;
        kernel.balancer.set_slice(both);
        let ended = kernel.sync();
        let vip = ServiceKey::new(ip("10.96.0.1").into(), 80, protocol.number());
        assert_eq!(kernel.inside(vip), ["10.1.0.2:8080"]);
        let status = kernel.tables.targets[&target].status;
        if kept {
            assert_eq!(status, TargetStatus::Terminating as u8);
            assert!(ended.is_empty());
            let slot = kernel.tables.backends.values().find(|b| b.target == target).unwrap();
            assert_eq!(slot.flags, BACKEND_NOT_READY);
        } else {
            assert_eq!(status, TargetStatus::Gone as u8);
            assert_eq!(ended.len(), 1);
            assert_eq!((ended[0].addr.ip(), ended[0].port), (ip("10.1.0.1"), 8080));
        }
    }
}

#[test]
fn an_endpoint_in_two_slices_is_listed_once_and_as_the_better_one() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    let leaving = endpoint("10.1.0.1").terminating();
    kernel.balancer.set_slice(slice("web-a", vec![leaving]).of("web"));
    kernel.balancer.set_slice(slice("web-b", vec![endpoint("10.1.0.1")]).of("web"));
    kernel.sync();
    assert_eq!(kernel.inside(key("10.96.0.1", 80)), ["10.1.0.1:8080"]);
    assert_eq!(kernel.tables.backends.values().next().unwrap().flags, 0);
}

#[test]
fn of_slices_that_disagree_where_an_endpoint_is_one_that_says_here_counts() {
    for order in [["a", "b"], ["b", "a"]] {
        let mut kernel = Kernel::new();
        kernel.balancer.set_service(service("web", &["10.96.0.1"]));
        for (name, node) in order.into_iter().zip(["there", "here"]) {
            kernel.balancer.set_slice(slice(name, vec![endpoint("10.1.0.1").on(node)]).of("web"));
        }
        kernel.sync();
        let backends = kernel.tables.backends.values();
        assert_eq!(backends.map(|backend| backend.flags).collect::<Vec<_>>(), [BACKEND_LOCAL]);
    }
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let mut kernel = Kernel::new();
    let mut web = service("web", &["10.96.0.1"]);
    web.ports = vec![http("a", 80), http("b", 81), http("c", 82)];
    kernel.balancer.set_service(web);
    let mut ports = slice("web", vec![endpoint("10.1.0.1")]);
    ports.ports[0].name = "a".into();
    let mut other = ports.ports[0].clone();
    other.name = "b".into();
    other.port = 9090;
    let mut udp = other.clone();
    udp.name = "c".into();
    udp.protocol = Protocol::Udp;
    ports.ports.extend([other, udp]);
    kernel.balancer.set_slice(ports);
    kernel.sync();
    assert_eq!(kernel.inside(key("10.96.0.1", 80)), ["10.1.0.1:8080"]);
    assert_eq!(kernel.inside(key("10.96.0.1", 81)), ["10.1.0.1:9090"]);
    assert!(kernel.inside(key("10.96.0.1", 82)).is_empty());
}
