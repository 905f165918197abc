// SPDX-License-Identifier: Apache-2.0
//! Frontends that are not served, and addresses that are none.

use super::super::support::*;
use super::*;

#[test]
fn frontends_that_are_not_served_have_their_reason() {
    let mut kernel = Kernel::new();
    let serve =
        Serve { external: false, node_ports: Some(31000..=32000), ..Context::of("here").serve };
    kernel.balancer.set_context(Context { serve, ..Context::of("here") });
    let mut web = balanced();
    web.ingress.push(IngressAddress { ip: ip("192.0.2.3"), proxied: true });
    web.external_ips = vec![ip("2001:db8::1")];
    kernel.balancer.set_service(web.clone());
    kernel.sync();
    let unserved = |kernel: &Kernel, of: &str| -> Vec<String> {
        let found = Asker::default().ask(kernel, &Question::Service(name(of)), None);
        let rows = found.services[0].unserved.iter();
        rows.map(|row| format!("{} {}", row.frontend, row.reason)).collect()
    };
    let has = |rows: &[String], frontend: &str, word: &str| {
        let row = rows.iter().find(|row| row.starts_with(frontend));
        assert!(row.is_some_and(|row| row.contains(word)), "{frontend}: {rows:?}");
    };
    let rows = unserved(&kernel, "web");
    has(&rows, "*:30080/TCP", "outside `nodePort.range`");
    has(&rows, "192.0.2.2:80/TCP", "`externalIPs.enabled`");
    has(&rows, "192.0.2.3", "ipMode: Proxy");
    has(&rows, "[2001:db8::1]:80/TCP", "no cluster IP of family IPv6");

    let mut kernel = Kernel::new();
    let mut other = balanced();
    other.name = name("another");
    other.cluster_ips = vec![ip("10.96.0.2")];
    kernel.balancer.set_service(other);
    kernel.sync();
    web.annotations = [("service.cilium.io/type".into(), "ClusterIP,LoadBalancer".into())].into();
    kernel.balancer.set_service(web);
    kernel.sync();
    let rows = unserved(&kernel, "web");
    has(&rows, "192.0.2.2:80/TCP", "Service default/another has it");
    has(&rows, "*:30080/TCP", "annotations");
}

#[test]
fn a_host_port_is_explained_by_its_pod() {
    let mut kernel = Kernel::new();
    kernel.balancer.set_pod(pod("p", "10.1.0.7", None, 8080));
    kernel.sync();
    agrees(&kernel);
    let at = Question::Address(ip(SERVING), 8080);
    let found = Asker::default().ask(&kernel, &at, OUTSIDE);
    assert_eq!(found.services[0].subject, "Pod default/p");
    let port = &found.services[0].ports[0];
    assert_eq!(port.frontends[0].verdicts[0].endpoints, ["10.1.0.7:80"]);
    assert_eq!(port.endpoints[0].node, "here");

    // A hostIP that only the node's own sockets can mean.
    kernel.balancer.set_pod(pod("q", "10.1.0.8", Some("127.0.0.1"), 9090));
    kernel.sync();
    assert_eq!(one(&kernel, "127.0.0.1:9090", NODE).0, Fate::Served);
    for from in [POD, OUTSIDE] {
        let (fate, _, why) = one(&kernel, "127.0.0.1:9090", from);
        assert_eq!(fate, Fate::Passed);
        assert!(why.contains("own loopback"), "{why}");
    }
}

#[test]
fn an_answer_about_nothing_tells_what_is_near() {
    let kernel = world(balanced(), vec![endpoint("10.1.0.1")]);
    let ask = |to: &str, port| {
        Asker::default().ask(&kernel, &Question::Address(ip(to), port), POD).notes.join("; ")
    };
    assert_eq!(ask("10.96.0.1", 81), "10.96.0.1:80/TCP is Service default/web");
    assert!(ask("198.51.100.1", 30080).contains("a port of every node"));
    let nobody = Asker::default().ask(&kernel, &Question::Service(name("nobody")), None);
    assert_eq!(nobody, Answer::default());
}
