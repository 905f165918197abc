// SPDX-License-Identifier: Apache-2.0
//! Golden scenarios: Kubernetes YAML in, the content of the service maps out.
//!
//! `scenarios/NAME.yaml` is what the cluster holds, seen from node `here`; `scenarios/NAME.txt` is
//! the dump; a first line `# loadBalancer.mode: MODE` is this node's configuration. `UPDATE_GOLDEN=1` writes the dumps anew: read the difference before committing it.

#![allow(clippy::unwrap_used)] // A test says so when it cannot go on.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use culvert::abi::{
    BACKEND_LOCAL, BACKEND_NOT_READY, BACKEND_TERMINATING, SERVICE_AFFINITY, SERVICE_DELEGATE,
    SERVICE_DSR, SERVICE_HAS_ENDPOINTS, SERVICE_MAGLEV, SERVICE_SOURCE_RANGES,
    SERVICE_SOURCE_RANGES_DENY, ServiceKey, ServiceKind, VIP_CLUSTER_IP, VIP_EXTERNAL, VIP_FOREIGN,
};
use culvert::k8s::manifests::parse;
use culvert::lb::{Actual, Balancer, Context, Mode, Selection};
use culvert::model::{Object, Problem, Protocol};

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )+};
}

scenarios!(
    a_dual_stack_service_has_a_list_for_each_family,
    a_health_check_port_is_the_nodes_own_at_the_load_balancers_addresses,
    a_host_port_inside_the_node_port_range_is_refused_and_said,
    a_host_port_is_its_newest_pods,
    a_load_balancer_without_node_ports_has_only_its_addresses,
    a_node_port_outside_the_range_is_not_served_and_is_said,
    a_port_is_matched_by_name_also_where_only_some_slices_have_it,
    an_address_of_the_load_balancer_that_is_an_external_ip_too_is_the_load_balancers,
    an_address_that_two_classes_share_is_refused_to_nobody,
    an_external_ip_takes_no_cluster_ip_and_no_load_balancers_address,
    annotations_of_delegation_algorithm_and_forwarding_reach_the_map,
    annotations_say_which_frontends_this_node_serves,
    hybrid_returns_streams_directly_and_annotations_and_policy_local_differ,
    conflicting_external_ips_go_to_the_first_by_name,
    denied_ranges_and_ranges_for_all_types_are_flagged,
    endpoints_without_a_node_or_a_pod_are_remote,
    external_and_internal_policy_are_independent,
    external_ips_follow_the_external_policy_and_the_cluster_gets_all,
    external_name_headless_and_other_proxies_services_are_nobodys_here,
    headless_and_foreign_services_are_not_served,
    hints_count_only_if_every_ready_endpoint_has_one_and_one_is_for_us,
    host_ports_have_addresses_families_and_protocols,
    ip_mode_proxy_and_host_names_are_left_to_the_load_balancer,
    local_without_a_local_endpoint_drops_and_without_any_rejects,
    maglev_tables_follow_weights_and_are_shared_by_equal_endpoints,
    node_hints_come_before_zone_hints,
    not_ready_addresses_that_are_published_count_as_ready,
    one_port_number_serves_each_protocol_by_itself,
    only_ready_endpoints_get_new_connections,
    policy_local_ignores_hints,
    policy_local_keeps_to_this_node_and_terminating_endpoints_are_the_last_resort,
    session_affinity_lasts_three_hours_unless_said_otherwise,
    several_slices_are_one_list_without_duplicates,
    source_ranges_guard_load_balancer_addresses_and_a_foreign_class_is_marked,
    terminating_endpoints_serve_when_none_is_ready_and_only_while_they_serve,
    the_local_list_falls_back_to_terminating_endpoints_by_itself,
    zone_hints_keep_clients_in_their_zone,
);

fn check(name: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let yaml = fs::read_to_string(dir.join(name).with_extension("yaml")).unwrap();
    let expected = dir.join(name).with_extension("txt");
    let dump = dump(&yaml, name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, &dump).unwrap();
    }
    let expected = fs::read_to_string(&expected).unwrap();
    assert_eq!(dump, expected, "\n--- is\n{dump}\n--- should be\n{expected}");
}

fn dump(yaml: &str, origin: &str) -> String {
    let (objects, mut problems) = parse(yaml, origin);
    let mut context = Context::of("here");
    context.serve.forwarding.mode = match yaml.lines().next().unwrap() {
        "# loadBalancer.mode: dsr" => Mode::Dsr,
        "# loadBalancer.mode: hybrid" => Mode::Hybrid,
        _ => Mode::Snat,
    };
    // Room for two tables of the smallest size.
    let selection = Selection { words: 1500, ..Selection::default() };
    let mut balancer = Balancer::new(context, 1024).with_selection(selection);
    for object in objects {
        match object {
            Object::Service(service) => drop(balancer.set_service(service)),
            Object::Slice(slice) => drop(balancer.set_slice(slice)),
            Object::Pod(pod) => drop(balancer.set_pod(pod)),
            Object::Node(node) => {
                let zone = node.zone().map(Into::into);
                let addresses = node.internal_addresses().collect();
                let context = balancer.context().clone();
                balancer.set_context(Context { zone, labels: node.labels, addresses, ..context });
            }
        }
    }
    let mut tables = Actual::default();
    for plan in balancer.plan(usize::MAX) {
        let written = plan.tables.iter().map(|table| (table.offset, table.places.clone()));
        tables.tables.extend(written);
        plan.phases().flatten().for_each(|write| tables.apply(*write));
    }
    problems.extend(balancer.problems());
    print(&tables, &problems)
}

fn print(tables: &Actual, problems: &[Problem]) -> String {
    let mut text = String::new();
    for (key, value) in &tables.services {
        let kind = ServiceKind::from_number(value.kind).unwrap().name();
        write!(text, "FE {} {kind} id={}", frontend(key), value.id).unwrap();
        write!(text, " outside={}+{}", value.outside.first, value.outside.count).unwrap();
        write!(text, " inside={}+{}", value.inside.first, value.inside.count).unwrap();
        if value.flags & SERVICE_HAS_ENDPOINTS == 0 {
            text.push_str(" no-endpoints");
        }
        for (flag, word) in [
            (SERVICE_SOURCE_RANGES, " source-ranges"),
            (SERVICE_SOURCE_RANGES_DENY, " deny"),
            (SERVICE_DSR, " dsr"),
            (SERVICE_DELEGATE, " delegate"),
        ] {
            if value.flags & flag != 0 {
                text.push_str(word);
            }
        }
        if value.algorithm == SERVICE_MAGLEV {
            write!(text, " maglev={}+{}", value.maglev_offset, value.maglev_size).unwrap();
        }
        if value.flags & SERVICE_AFFINITY != 0 {
            write!(text, " affinity={} ticks", value.affinity_timeout).unwrap();
        }
        text.push('\n');
    }
    for (key, value) in &tables.backends {
        let address = std::net::SocketAddr::new(value.addr.ip(), value.port.get());
        write!(text, "BE {} slot {} {address}", key.service, key.slot).unwrap();
        for (flag, word) in [
            (BACKEND_LOCAL, " local"),
            (BACKEND_TERMINATING, " terminating"),
            (BACKEND_NOT_READY, " not-ready"),
        ] {
            if value.flags & flag != 0 {
                text.push_str(word);
            }
        }
        text.push('\n');
    }
    for (offset, places) in &tables.tables {
        // All nodes must choose alike, those of other versions too.
        write!(text, "TABLE {offset} starts {:?}", &places[..8]).unwrap();
        for number in 0..=*places.iter().max().unwrap() {
            let count = places.iter().filter(|place| **place == number).count();
            write!(text, " {number}:{count}").unwrap();
        }
        text.push('\n');
    }
    for (addr, vip) in &tables.vips {
        write!(text, "VIP {}", addr.ip()).unwrap();
        for (flag, word) in [
            (VIP_CLUSTER_IP, " cluster-ip"),
            (VIP_EXTERNAL, " external"),
            (VIP_FOREIGN, " foreign"),
        ] {
            if vip.flags & flag != 0 {
                text.push_str(word);
            }
        }
        text.push('\n');
    }
    for key in &tables.source_ranges {
        let bits = key.prefixlen - 32 - if key.addr.is_v4() { 96 } else { 0 };
        writeln!(text, "SRC {} {}/{bits}", key.service, key.addr.ip()).unwrap();
    }
    if tables.host_ports != 0 {
        writeln!(text, "HOSTPORTS {}", tables.host_ports).unwrap();
    }
    for problem in problems {
        writeln!(text, "PROBLEM {}: {}", problem.subject, problem.message).unwrap();
    }
    text
}

fn frontend(key: &ServiceKey) -> String {
    let address = std::net::SocketAddr::new(key.vip.ip(), key.port.get());
    format!("{address}/{}", Protocol::from_number(key.proto).unwrap().name())
}

#[test]
fn every_scenario_is_checked() {
    let listed = include_str!("golden.rs");
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")).unwrap()
    {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(listed.contains(&format!("\n    {name},\n")), "{}", path.display());
    }
}
