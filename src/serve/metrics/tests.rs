// SPDX-License-Identifier: Apache-2.0
//! Names, and what a scrape shows.

use super::*;
use crate::abi::{Counter, Hook, Outcome};
use crate::agent::status::{Device, Feature, MapFill, Server, Source, Status, Trouble};
use crate::datapath::map::{Operation, Operations};

fn value<'a>(page: &'a str, series: &str) -> &'a str {
    let line =
        page.lines().find(|line| line.strip_prefix(series).is_some_and(|l| l.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no `{series}` in\n{page}")).rsplit(' ').next().unwrap()
}

/// prometheus.io/docs/practices/naming, as far as a program can check it.
#[test]
fn names_follow_the_rules_of_prometheus() {
    let metrics = Metrics::new().unwrap();
    assert!(metrics.registry.descriptions.len() > 30);
    for metric in &metrics.registry.descriptions {
        let name = metric.name.as_str();
        let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(ok), "{name}");
        let of_all = ["process_", "rest_client_"];
        let ours = ["culvert_", "kubeproxy_"].into_iter().chain(of_all);
        assert!(ours.into_iter().any(|prefix| name.starts_with(prefix)), "{name}");
        // kube-proxy's own slip, which its dashboards know.
        if name != "kubeproxy_sync_proxy_rules_no_local_endpoints_total" {
            assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}");
        }
        assert_eq!(name.ends_with("_duration_seconds"), metric.kind == "histogram", "{name}");
        for unit in ["_ms", "_milliseconds", "_micros", "_kb", "_percent", "_ratio", "_count"] {
            assert!(!name.contains(unit), "{name}");
        }
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{name}");
        for label in &metric.labels {
            assert!(
                !["le", "quantile", "pod", "ip", "address"].contains(&label.as_str()),
                "{name}"
            );
        }
    }
}

#[test]
fn packet_counters_are_the_datapaths_figures_and_complete_from_the_start() {
    let metrics = Metrics::new().unwrap();
    let count =
        |packets| [(Outcome::DropSpoofed, Hook::FromContainer, Counter { packets, bytes: 60 })];
    let spoofed = "culvert_dropped_packets_total{direction=\"egress\",hook=\"from_container\",reason=\"spoofed_source\"}";
    for packets in [3, 5, 5] {
        let page = metrics.page(&Status::default(), &count(packets)).unwrap();
        assert_eq!(value(&page, spoofed), packets.to_string());
        let other = spoofed.replace("spoofed_source", "no_route");
        assert_eq!(value(&page, &other), "0");
    }
}

/// Values are proved where maps are written: `kernel::sync` and the lab.
#[test]
fn writes_of_maps_are_shown_with_what_was_done_and_what_came_of_it() {
    let metrics = Metrics::new().unwrap();
    let operations = Operations::default();
    operations.count(Operation::Update, 7, 2);
    operations.count(Operation::Delete, 4, 1);
    for _ in 0..2 {
        metrics.take_operations(&[("services", &operations)]);
        let page = metrics.page(&Status::default(), &[]).unwrap();
        for (operation, result, entries) in [
            ("update", "success", "5"),
            ("update", "error", "2"),
            ("delete", "success", "3"),
            ("delete", "error", "1"),
        ] {
            let labels =
                format!("{{map=\"services\",operation=\"{operation}\",result=\"{result}\"}}");
            assert_eq!(value(&page, &format!("culvert_map_operations_total{labels}")), entries);
        }
    }
}

#[test]
fn the_status_shows_as_gauges_and_what_is_gone_disappears() {
    let metrics = Metrics::new().unwrap();
    let mut status =
        Status { version: "1.2".into(), kernel: "6.18".into(), ready: true, ..Status::default() };
    status.revision = "abc".into();
    status.sync.frontend_types = [("ClusterIP".to_owned(), 4), ("NodePort".to_owned(), 0)].into();
    status.sync.backends = 10;
    (status.sync.backends_terminating, status.sync.backends_not_ready) = (2, 1);
    status.features.mode = Feature::instead("DSR", "SNAT", "the kernel has no Geneve devices");
    status.maps.push(MapFill { name: "flows".into(), entries: 7, max_entries: 100 });
    status.sources.push(Source {
        name: "kube https://a".into(),
        connected: true,
        ..Source::default()
    });
    status.sync.services = 9;
    let device = |name: &str, mtu, dsr_mtu| {
        let json = serde_json::json!({"name": name, "ifindex": 2, "addresses": [], "mtu": mtu});
        Device { dsr_mtu, ..serde_json::from_value(json).unwrap() }
    };
    status.devices = vec![device("eth0", 1500, Some([1484, 1468])), device("eth1", 9000, None)];
    (status.sync.no_local_internal, status.sync.no_local_external) = ([2, 1], [4, 0]);
    let page = metrics.page(&status, &[]).unwrap();
    assert_eq!(
        value(&page, "culvert_build_info{kernel=\"6.18\",revision=\"abc\",version=\"1.2\"}"),
        "1"
    );
    assert_eq!(value(&page, "culvert_ready"), "1");
    assert_eq!(value(&page, "culvert_services"), "9");
    assert_eq!(value(&page, "culvert_frontends{type=\"ClusterIP\"}"), "4");
    assert_eq!(value(&page, "culvert_frontends{type=\"NodePort\"}"), "0");
    for (state, slots) in [("active", "7"), ("terminating", "2"), ("not_ready", "1")] {
        assert_eq!(value(&page, &format!("culvert_backends{{state=\"{state}\"}}")), slots);
    }
    assert_eq!(value(&page, "culvert_map_entries{map=\"flows\"}"), "7");
    assert_eq!(value(&page, "culvert_map_max_entries{map=\"flows\"}"), "100");
    let no_local = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    for (family, policy, ports) in [
        ("IPv4", "internal", "2"),
        ("IPv6", "internal", "1"),
        ("IPv4", "external", "4"),
        ("IPv6", "external", "0"),
    ] {
        let labels = format!("{{ip_family=\"{family}\",traffic_policy=\"{policy}\"}}");
        assert_eq!(value(&page, &format!("{no_local}{labels}")), ports);
    }
    let mtu = |device, family| {
        let series = "culvert_request_mtu_bytes";
        value(&page, &format!("{series}{{device=\"{device}\",ip_family=\"{family}\"}}")).to_owned()
    };
    assert_eq!([mtu("eth0", "IPv4"), mtu("eth0", "IPv6")], ["1484", "1468"]);
    assert_eq!([mtu("eth1", "IPv4"), mtu("eth1", "IPv6")], ["9000", "9000"]);
    let mode = "culvert_feature_info{effective=\"SNAT\",feature=\"Mode\",requested=\"DSR\"}";
    assert_eq!(value(&page, mode), "1");

    let server =
        |url: &str, in_use, failures| Server { url: url.into(), in_use, failures, problem: None };
    status.sources[0].servers = vec![server("https://a", false, 3), server("https://b", true, 0)];
    let trouble = Trouble { kind: "Pod".into(), reason: "forbidden".into(), count: 2 };
    status.sources[0].troubles = vec![trouble];
    status.sources[0].name = "kube https://b".into();
    let page = metrics.page(&status, &[]).unwrap();
    assert!(!page.contains("source=\"kube https://a"), "{page}");
    assert_eq!(value(&page, "culvert_source_server_in_use{server=\"https://a\"}"), "0");
    assert_eq!(value(&page, "culvert_source_server_in_use{server=\"https://b\"}"), "1");
    assert_eq!(value(&page, "culvert_source_server_failures_total{server=\"https://a\"}"), "3");
    let trouble = "culvert_source_troubles_total{kind=\"Pod\",reason=\"forbidden\"}";
    assert_eq!(value(&page, trouble), "2");
}

#[test]
fn a_sync_is_counted_under_kube_proxys_names_too() {
    let metrics = Metrics::new().unwrap();
    let shows = |name: &str, family: &str, expected: &str| {
        let page = metrics.page(&Status::default(), &[]).unwrap();
        let series = format!("kubeproxy_{name}{{ip_family=\"{family}\"}}");
        assert_eq!(value(&page, &series), expected, "{series}");
    };
    metrics.queued(2, [3, 1]);
    shows("sync_proxy_rules_endpoint_changes_pending", "IPv4", "3");
    shows("sync_proxy_rules_endpoint_changes_pending", "IPv6", "1");
    shows("sync_proxy_rules_service_changes_pending", "IPv6", "2");
    metrics.synced(Stage::Full, Duration::from_millis(3));
    metrics.synced(Stage::Partial, Duration::from_millis(1));
    metrics.programmed(Family::V6, Duration::from_millis(1));
    metrics.flows_aged(Duration::from_millis(1), [5, 7]);
    metrics.healthz(503);
    for (name, v4, v6) in [
        ("sync_proxy_rules_endpoint_changes_pending", "0", "0"),
        ("sync_proxy_rules_endpoint_changes_total", "3", "1"),
        ("sync_proxy_rules_service_changes_pending", "0", "0"),
        ("sync_proxy_rules_service_changes_total", "2", "2"),
        ("sync_proxy_rules_duration_seconds_count", "2", "2"),
        ("sync_full_proxy_rules_duration_seconds_count", "1", "1"),
        ("sync_partial_proxy_rules_duration_seconds_count", "1", "1"),
        ("network_programming_duration_seconds_count", "0", "1"),
        ("conntrack_reconciler_sync_duration_seconds_count", "1", "1"),
        ("conntrack_reconciler_deleted_entries_total", "5", "7"),
    ] {
        shows(name, "IPv4", v4);
        shows(name, "IPv6", v6);
    }
    let page = metrics.page(&Status::default(), &[]).unwrap();
    let bucket = "culvert_sync_duration_seconds_bucket{stage=\"full\",le=\"0.004\"}";
    assert_eq!(value(&page, bucket), "1");
    assert_eq!(value(&page, "culvert_flow_gc_deleted_total"), "12");
    assert_eq!(value(&page, "kubeproxy_proxy_healthz_total{code=\"503\"}"), "1");
    assert_eq!(value(&page, "kubeproxy_proxy_livez_total{code=\"503\"}"), "0");
}

#[test]
fn requests_and_the_process_have_the_names_that_every_component_has() {
    let metrics = Metrics::new().unwrap();
    let host = "10.0.0.1:6443";
    metrics.api_request("GET", host, Some(200), Duration::from_millis(20));
    metrics.api_request("GET", host, Some(410), Duration::from_secs(3));
    metrics.api_request("GET", host, None, Duration::from_secs(30));
    for (cpu_seconds, shown) in [(2.5, "2.5"), (1.0, "2.5"), (4.0, "4")] {
        let process = process::Process { cpu_seconds, open_fds: 9, ..Default::default() };
        metrics.take_process(&process);
        let page = metrics.page(&Status::default(), &[]).unwrap();
        assert_eq!(value(&page, "process_cpu_seconds_total"), shown);
        assert_eq!(value(&page, "process_open_fds"), "9");
    }
    let page = metrics.page(&Status::default(), &[]).unwrap();
    for code in ["200", "410", "<error>"] {
        let labels = format!("{{code=\"{code}\",host=\"{host}\",method=\"GET\"}}");
        assert_eq!(value(&page, &format!("rest_client_requests_total{labels}")), "1");
    }
    let bucket = |le: &str| {
        let labels = format!("{{host=\"{host}\",verb=\"GET\",le=\"{le}\"}}");
        value(&page, &format!("rest_client_request_duration_seconds_bucket{labels}")).to_owned()
    };
    assert_eq!(["0.005", "0.025", "4", "60"].map(bucket), ["0", "1", "2", "3"]);
}

/// `pkg/proxy/metrics` of Kubernetes: `ExponentialBuckets(0.001, 2, 15)`, and for programming
/// quarters to 0.5, then 1 to 59 by 1, 60 to 115 by 5, 120 to 300 by 30.
#[test]
fn buckets_are_kube_proxys() {
    let page = Metrics::new().unwrap().page(&Status::default(), &[]).unwrap();
    let edges = |name: &str| -> Vec<f64> {
        let start = format!("kubeproxy_{name}_bucket{{ip_family=\"IPv4\",le=\"");
        let lines = page.lines().filter_map(|line| line.strip_prefix(start.as_str()));
        lines.filter_map(|line| line.split('"').next()?.parse().ok()).collect()
    };
    let sync = edges("sync_proxy_rules_duration_seconds");
    assert_eq!((sync.len(), sync[0], sync[14]), (16, 0.001, 16.384));
    let programming = edges("network_programming_duration_seconds");
    assert_eq!(programming.len(), 2 + 59 + 12 + 7 + 1);
    assert_eq!(programming[..3], [0.25, 0.5, 1.0]);
    assert_eq!((programming[60], programming[61], programming[72]), (59.0, 60.0, 115.0));
    assert_eq!((programming[73], programming[79]), (120.0, 300.0));
    assert_eq!(edges("conntrack_reconciler_sync_duration_seconds"), sync);
}
