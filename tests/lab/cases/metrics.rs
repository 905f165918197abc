// SPDX-License-Identifier: Apache-2.0
//! `/metrics` of an agent that has served, as Prometheus itself reads it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::lifecycle::page;
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

/// Those of `pkg/proxy/metrics` in Kubernetes 1.36 that are not about iptables or nftables.
const KUBE_PROXYS: [(&str, &str); 15] = [
    ("sync_proxy_rules_duration_seconds", "histogram"),
    ("sync_full_proxy_rules_duration_seconds", "histogram"),
    ("sync_partial_proxy_rules_duration_seconds", "histogram"),
    ("network_programming_duration_seconds", "histogram"),
    ("sync_proxy_rules_last_timestamp_seconds", "gauge"),
    ("sync_proxy_rules_last_queued_timestamp_seconds", "gauge"),
    ("sync_proxy_rules_service_changes_total", "counter"),
    ("sync_proxy_rules_service_changes_pending", "gauge"),
    ("sync_proxy_rules_endpoint_changes_total", "counter"),
    ("sync_proxy_rules_endpoint_changes_pending", "gauge"),
    ("sync_proxy_rules_no_local_endpoints_total", "gauge"),
    ("conntrack_reconciler_sync_duration_seconds", "histogram"),
    ("conntrack_reconciler_deleted_entries_total", "counter"),
    ("proxy_healthz_total", "counter"),
    ("proxy_livez_total", "counter"),
];

#[test]
fn kube_proxys_names_are_on_the_page_and_follow_what_happens() {
    let stage = &*SHARED;
    let node = stage.lab.node(1);
    let value = |name: &str, labels: &str| node.metric(&format!("kubeproxy_{name}{{{labels}}}"));
    let of = |name: &str| value(name, "ip_family=\"IPv4\"");
    let no_local = || {
        let labels = "ip_family=\"IPv6\",traffic_policy=\"internal\"";
        value("sync_proxy_rules_no_local_endpoints_total", labels)
    };
    let names = [
        "sync_proxy_rules_duration_seconds_count",
        "sync_partial_proxy_rules_duration_seconds_count",
        "network_programming_duration_seconds_count",
        "sync_proxy_rules_last_timestamp_seconds",
        "sync_proxy_rules_last_queued_timestamp_seconds",
        "sync_proxy_rules_service_changes_total",
        "sync_proxy_rules_endpoint_changes_total",
        "conntrack_reconciler_sync_duration_seconds_count",
    ];
    let before = names.map(of);
    let (without, healthy) = (no_local(), value("proxy_healthz_total", "code=\"200\""));

    let service = Service { name: "named", number: 84, ..Service::default() };
    let mut objects = service.objects(&[&stage.far]);
    objects[0]["spec"]["internalTrafficPolicy"] = "Local".into();
    let now = Command::new("date").args(["-u", "+%FT%TZ"]).output().unwrap().stdout;
    for slice in &mut objects[1..] {
        slice["metadata"]["annotations"] = serde_json::json!({
            "endpoints.kubernetes.io/last-change-trigger-time": String::from_utf8_lossy(&now).trim(),
        });
    }
    stage.lab.publish("named", &objects).unwrap();
    eventually("what the new service changes is counted", || {
        names.map(of).iter().zip(&before).all(|(now, before)| now > before) && no_local() > without
    });
    page(node, "/healthz");
    assert!(value("proxy_healthz_total", "code=\"200\"") > healthy);

    let page = node.metrics().unwrap();
    for (name, kind) in KUBE_PROXYS {
        let line = format!("# TYPE kubeproxy_{name} {kind}\n");
        assert!(page.contains(&line), "{line}");
        let series = |line: &&str| line.starts_with(&format!("kubeproxy_{name}"));
        assert!(page.lines().any(|line| series(&line)), "{name} has no series");
    }
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
