// SPDX-License-Identifier: Apache-2.0
//! What the configuration leaves to others is in no table.

use super::support::*;
use crate::abi::ServiceKind;
use crate::lb::{Context, Serve};
use crate::model::{IngressAddress, ServiceType};

/// The kinds that are written, and the problems, when `serve` is what is asked for.
fn served(kernel: &mut Kernel, serve: Serve) -> (Vec<&'static str>, Vec<String>) {
    kernel.balancer.set_context(Context { serve, ..Context::of("here") });
    kernel.sync();
    let kinds = kernel.tables.services.values();
    let mut kinds: Vec<_> =
        kinds.map(|value| ServiceKind::from_number(value.kind).unwrap().name()).collect();
    kinds.sort_unstable();
    let problems = kernel.balancer.problems().into_iter();
    (kinds, problems.map(|problem| format!("{}: {}", problem.subject, problem.message)).collect())
}

#[test]
fn what_is_switched_off_leaves_the_tables_and_comes_back() {
    let mut kernel = Kernel::new();
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::LoadBalancer;
    web.ports[0].node_port = Some(30080);
    web.external_ips = vec![ip("192.0.2.1")];
    web.ingress = vec![IngressAddress { ip: ip("192.0.2.2"), proxied: false }];
    kernel.balancer.set_service(web);
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1")]));

    let all = ["ClusterIP", "ExternalIPs", "LoadBalancer", "NodePort"];
    let everything = Context::of("here").serve;
    assert_eq!(served(&mut kernel, everything.clone()), (all.to_vec(), vec![]));

    let internal = Serve { external: false, ..everything.clone() };
    assert_eq!(served(&mut kernel, internal).0, ["ClusterIP", "NodePort"]);
    let none = Serve { node_ports: None, external: false, ..everything.clone() };
    assert_eq!(served(&mut kernel, none), (vec!["ClusterIP"], vec![]));

    let narrow = Serve { node_ports: Some(31000..=32000), ..everything.clone() };
    let (kinds, problems) = served(&mut kernel, narrow);
    assert_eq!(kinds, all[..3]);
    assert_eq!(
        problems,
        ["Service default/web: NodePort 30080 lies outside `nodePort.range`; widen that"]
    );
    assert_eq!(served(&mut kernel, everything).0, all);
}
