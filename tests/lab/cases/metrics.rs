// SPDX-License-Identifier: Apache-2.0
//! `/metrics` of an agent that has served, as Prometheus itself reads it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::stage::{SHARED, eventually};
use crate::lab::manifest::{SERVICE_PORT, Service};

/// kube-proxy's own slip, which its dashboards know.
const KNOWN: &str = "kubeproxy_sync_proxy_rules_no_local_endpoints_total non-counter metrics should \
                     not have \"_total\" suffix";

#[test]
fn promtool_finds_no_fault_with_what_a_live_agent_tells() {
    let stage = &*SHARED;
    let service = Service { name: "measured", number: 89, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    let to = SocketAddr::new(service.cluster_ip(false), SERVICE_PORT);
    stage.ask_until(&stage.clients[0].place, "tcp", to, |outcome| outcome.is_from("web"));
    let page = stage.lab.node(1).metrics().unwrap();

    let promtool = concat!(env!("CARGO_MANIFEST_DIR"), "/target/promtool/usr/bin/promtool");
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("promtool; `scripts/fetch-promtool` brings it");
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    // It names what is not to its taste with 3, and ends at what it cannot read with 1.
    assert_eq!((output.status.code(), told.trim()), (Some(3), KNOWN));
    assert!(page.matches("# TYPE ").count() > 45, "{page}");
}

#[test]
fn writes_are_counted_by_map() {
    let stage = &*SHARED;
    let node = stage.lab.node(1);
    let count = |map: &str, operation: &str, result: &str| {
        let labels = format!("{{map=\"{map}\",operation=\"{operation}\",result=\"{result}\"}}");
        node.metric(&format!("culvert_map_operations_total{labels}"))
    };
    let before = count("services", "update", "success");
    let service = Service { name: "counted", number: 99, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    // Two protocols and two families.
    eventually("four frontends are counted", || {
        count("services", "update", "success") >= before + 4.0
    });
    let removed = count("services", "delete", "success");
    std::fs::remove_file(stage.lab.manifests().join("counted.yaml")).unwrap();
    eventually("their removal is counted", || {
        count("services", "delete", "success") >= removed + 4.0
    });
    assert_eq!(count("services", "update", "error"), 0.0);
}
