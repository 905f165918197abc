// SPDX-License-Identifier: Apache-2.0
//! Which frontends are served by direct server return.

use super::support::*;
use crate::abi::{SERVICE_DSR, ServiceKind};
use crate::lb::{Context, Forwarding, Mode, Serve};
use crate::model::{IngressAddress, Protocol, Service, ServiceType, TrafficPolicy};

/// A TCP port 80, a UDP port 81 and an SCTP port 82, on every kind of frontend.
fn web(annotation: Option<&str>) -> Service {
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::LoadBalancer;
    web.ports = vec![http("t", 80), http("u", 81), http("s", 82)];
    web.ports[1].protocol = Protocol::Udp;
    web.ports[2].protocol = Protocol::Sctp;
    for (port, number) in web.ports.iter_mut().zip(30080..) {
        port.node_port = Some(number);
    }
    web.external_ips = vec![ip("192.0.2.1")];
    web.ingress = vec![IngressAddress { ip: ip("192.0.2.2"), proxied: false }];
    let key = "service.culvert.io/forwarding-mode".to_owned();
    web.annotations = annotation.map(|value| (key, value.to_owned())).into_iter().collect();
    web
}

fn context(mode: Mode, obstacle: Option<&str>) -> Context {
    let mut context = Context::of("here");
    let forwarding = Forwarding { mode, obstacle: obstacle.map(str::to_owned) };
    context.serve = Serve { forwarding, ..context.serve };
    context
}

/// The frontends with direct server return, as `kind/protocol`.
fn dsr(kernel: &Kernel) -> Vec<String> {
    let with = kernel.tables.services.iter().filter(|(_, value)| value.flags & SERVICE_DSR != 0);
    let mut names: Vec<String> = with
        .map(|(key, value)| {
            let kind = ServiceKind::from_number(value.kind).unwrap().name();
            format!("{kind}/{}", Protocol::from_number(key.proto).unwrap().name())
        })
        .collect();
    names.sort();
    names
}

fn outside(protocols: &[&str]) -> Vec<String> {
    let kinds = ["ExternalIPs", "LoadBalancer", "NodePort"];
    let all = kinds.iter().flat_map(|kind| protocols.iter().map(move |p| format!("{kind}/{p}")));
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}

#[test]
fn the_mode_decides_by_protocol_and_the_annotation_for_one_service() {
    let all = ["TCP", "UDP", "SCTP"];
    let cases: [(Mode, Option<&str>, &[&str]); 9] = [
        (Mode::Snat, None, &[]),
        (Mode::Dsr, None, &all),
        (Mode::Hybrid, None, &["TCP", "SCTP"]),
        (Mode::Snat, Some("dsr"), &all),
        (Mode::Hybrid, Some("dsr"), &all),
        (Mode::Dsr, Some("snat"), &[]),
        (Mode::Hybrid, Some("snat"), &[]),
        (Mode::Dsr, Some("neither"), &all),
        (Mode::Hybrid, Some("hybrid"), &["TCP", "SCTP"]),
    ];
    for (mode, annotation, protocols) in cases {
        let mut kernel = Kernel::new();
        kernel.balancer.set_context(context(mode, None));
        kernel.balancer.set_service(web(annotation));
        kernel.sync();
        assert_eq!(dsr(&kernel), outside(protocols), "{mode:?} {annotation:?}");
        let counted = kernel.balancer.totals().dsr as usize;
        assert_eq!(counted, 3 * protocols.len(), "{mode:?} {annotation:?}");
    }
}

#[test]
fn policy_local_needs_no_direct_server_return() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_context(context(Mode::Dsr, None));
    let local = Service { external_policy: TrafficPolicy::Local, ..web(Some("dsr")) };
    kernel.balancer.set_service(local);
    kernel.sync();
    assert_eq!(dsr(&kernel), [""; 0]);
}

#[test]
fn another_mode_or_annotation_takes_effect_at_once_and_keeps_the_services_list() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(web(None));
    kernel.sync();
    let ids = |kernel: &Kernel| -> Vec<(u32, u32)> {
        kernel.tables.services.values().map(|value| (value.id, value.generation)).collect()
    };
    let before = ids(&kernel);
    kernel.balancer.set_context(context(Mode::Hybrid, None));
    kernel.sync();
    assert_eq!(dsr(&kernel), outside(&["TCP", "SCTP"]));
    assert!(kernel.balancer.set_service(web(Some("snat"))));
    kernel.sync();
    assert_eq!(dsr(&kernel), [""; 0]);
    assert_eq!(ids(&kernel), before, "flows keep their owner and slots");
}

#[test]
fn where_it_is_not_possible_snat_serves_and_a_service_that_asks_is_named() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_context(context(Mode::Dsr, Some("the kernel has no Geneve")));
    kernel.balancer.set_service(web(None));
    kernel.sync();
    assert_eq!(dsr(&kernel), [""; 0]);
    assert_eq!(kernel.balancer.problems(), [], "the status says it for all of them");

    kernel.balancer.set_service(web(Some("dsr")));
    kernel.sync();
    assert_eq!(dsr(&kernel), [""; 0]);
    let problems = kernel.balancer.problems();
    assert_eq!(
        (problems.len(), problems[0].message.as_str()),
        (1, "`forwarding-mode: dsr` has no effect here: the kernel has no Geneve")
    );
    kernel.balancer.set_context(context(Mode::Snat, None));
    kernel.sync();
    assert_eq!(kernel.balancer.problems(), []);
    assert_eq!(dsr(&kernel), outside(&["TCP", "UDP", "SCTP"]));
}
