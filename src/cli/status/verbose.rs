// SPDX-License-Identifier: Apache-2.0
//! What `culvert status --verbose` adds.

use std::fmt::Write as _;

use super::draw::{devices, effect};
use crate::agent::status::{Device, MapFill, Status};
use crate::cli::table;

/// Everything after the short form.
pub(super) fn lines(status: &Status) -> String {
    let mut text = details(status);
    text.push_str(&sysctls(status));
    text.push_str(&maps(&status.maps));
    text.push_str(&programs(status));
    text.push_str(&pods(status));
    text
}

/// The keys of the KubeProxyReplacement block, in the order people know.
fn details(status: &Status) -> String {
    let features = &status.features;
    let mut text = String::from("KubeProxyReplacement Details:\n");
    let mut key = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<23}{}", format!("{key}:"), value.trim_end());
    };
    key("Status", effect(&features.kube_proxy_replacement));
    key("Socket LB", effect(&features.socket_lb));
    key("Socket LB Tracing", effect(&features.socket_lb_tracing));
    key("Socket LB Coverage", effect(&features.socket_lb_coverage));
    key("Devices", devices(&status.devices));
    key("Mode", effect(&features.mode));
    // Under SNAT an annotation may ask for it.
    let some = status.devices.iter().any(|device| device.dsr_mtu.is_some());
    if features.mode.requested != "SNAT" || some {
        key("DSR Dispatch Mode", effect(&features.dsr_dispatch));
    }
    for device in &status.devices {
        if let Some([v4, v6]) = device.dsr_mtu {
            let mtu = device.mtu;
            key(
                &format!("  {}", device.name),
                format!(
                    "requests up to {v4} (IPv4) and {v6} bytes (IPv6) fit into its MTU of {mtu}"
                ),
            );
        }
    }
    key("Backend Selection", effect(&features.backend_selection));
    key("Session Affinity", effect(&features.session_affinity));
    key("NAT46/64 Support", effect(&features.nat46x64));
    key("XDP Acceleration", effect(&features.xdp_acceleration));
    for device in status.devices.iter().filter(|device| accelerated(device)) {
        let word = if device.acceleration.is_empty() { "tc alone" } else { &device.acceleration };
        let why = match device.acceleration_problem.as_str() {
            "" => String::new(),
            why => format!(" ({why})"),
        };
        key(&format!("  {}", device.name), format!("{word}{why}"));
    }
    text.push_str("  Services:\n");
    let range = format!(" (Range: {}-{})", status.node_port.min, status.node_port.max);
    for (name, feature, range) in [
        ("ClusterIP", &features.cluster_ip, ""),
        ("NodePort", &features.node_port, range.as_str()),
        ("LoadBalancer", &features.load_balancer, ""),
        ("externalIPs", &features.external_ips, ""),
        ("HostPort", &features.host_port, ""),
    ] {
        let range = if feature.effective == "Enabled" { range } else { "" };
        let _ = writeln!(text, "  - {:<16}{}{range}", format!("{name}:"), effect(feature));
    }
    if status.annotations.is_empty() {
        text.push_str("  Annotations:           None\n");
    } else {
        text.push_str("  Annotations:\n");
    }
    for annotation in &status.annotations {
        let _ = writeln!(text, "  - {annotation}");
    }
    let _ = writeln!(text, "Cgroup root:             {}", status.cgroup_root);
    if !status.pod_cidrs.is_empty() {
        let _ = writeln!(text, "Pod CIDRs:               {}", status.pod_cidrs.join(" "));
    }
    if !status.native_routing_cidrs.is_empty() {
        let cidrs: Vec<_> = status.native_routing_cidrs.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "Native routing CIDRs:    {}", cidrs.join(" "));
    }
    text
}

/// Acceleration was asked for.
fn accelerated(device: &Device) -> bool {
    !(device.acceleration.is_empty() && device.acceleration_problem.is_empty())
}

fn sysctls(status: &Status) -> String {
    let rows = status.sysctls.iter().map(|each| {
        // The reserved ports may be a long list.
        let old = if each.old.is_empty() { "-".to_owned() } else { each.old.clone() };
        [each.key.clone(), old, each.new.clone()]
    });
    let table = table::draw(["Setting", "Was", "Is"], rows);
    section("Kernel settings changed", &table, status.sysctls.is_empty())
}

pub(super) fn maps(maps: &[MapFill]) -> String {
    let rows = maps.iter().map(|map| {
        let percent = (map.entries * 100).checked_div(map.max_entries).unwrap_or(0);
        let (entries, max) = (map.entries.to_string(), map.max_entries.to_string());
        [map.name.clone(), entries, max, format!("{percent} %")]
    });
    section("Maps", &table::draw(["Map", "Entries", "Max", "Fill"], rows), maps.is_empty())
}

fn programs(status: &Status) -> String {
    let rows = status
        .programs
        .iter()
        .map(|program| [program.name.clone(), program.verified_instructions.to_string()]);
    let table = table::draw(["Program", "Verified Instructions"], rows);
    section("Programs", &table, status.programs.is_empty())
}

fn pods(status: &Status) -> String {
    let rows = status.endpoints.iter().map(|endpoint| {
        let addresses: Vec<_> = endpoint.addresses.iter().map(ToString::to_string).collect();
        let pod = endpoint.pod.clone().unwrap_or_else(|| endpoint.container_id.clone());
        [pod, endpoint.device.clone(), addresses.join(" ")]
    });
    let table = table::draw(["Pod", "Device", "Addresses"], rows);
    section("Pods", &table, status.endpoints.is_empty())
}

/// Nothing for an empty table.
fn section(title: &str, table: &str, empty: bool) -> String {
    if empty {
        return String::new();
    }
    let lines: String = table.lines().map(|line| format!("  {line}\n")).collect();
    format!("{title}:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::Feature;
    use crate::cli::status::draw::tests::status;

    #[test]
    fn the_details_have_the_keys_of_the_notes_in_their_order() {
        assert_eq!(
            lines(&status()),
            "\
KubeProxyReplacement Details:
  Status:                True
  Socket LB:             Enabled
  Socket LB Tracing:     Disabled (not in this version)
  Socket LB Coverage:    Full
  Devices:               eth0    10.0.0.1 fd00::1 fe80::184:8e89:83fd:7ccc (Direct Routing)
  Mode:                  SNAT
  Backend Selection:     Random
  Session Affinity:      Enabled
  NAT46/64 Support:      Disabled (not in this version)
  XDP Acceleration:      Disabled (requested Best-Effort: eth0 in tc: the driver has no XDP)
    eth0:                tc alone (the driver has no XDP)
  Services:
  - ClusterIP:      Enabled
  - NodePort:       Enabled (Range: 30000-60000)
  - LoadBalancer:   Enabled
  - externalIPs:    Enabled
  - HostPort:       Enabled
  Annotations:           None
Cgroup root:             /run/culvert/cgroupv2
Kernel settings changed:
  Setting               Was   Is
  net.ipv4.ip_forward   0     1
Maps:
  Map        Entries   Max     Fill
  services   5         65536   0 %
Programs:
  Program       Verified Instructions
  from_netdev   1234
"
        );
    }

    #[test]
    fn one_services_direct_server_return_shows_under_snat_too() {
        let mut status = status();
        status.features.mode =
            Feature::instead("SNAT", "SNAT", "1 frontend by DSR, as annotations ask");
        status.devices[0].dsr_mtu = Some([1484, 1468]);
        let text = lines(&status);
        let mode = "  \
  Mode:                  SNAT (1 frontend by DSR, as annotations ask)
  DSR Dispatch Mode:     IP Option/Extension
    eth0:                requests up to";
        assert!(text.contains(mode), "{text}");
    }

    #[test]
    fn direct_server_return_has_lines_of_its_own_only_where_it_was_asked_for() {
        let mut status = status();
        status.features.mode = Feature::as_requested("Hybrid");
        status.devices[0].dsr_mtu = Some([1484, 1468]);
        let text = lines(&status);
        let mode = "  \
  Mode:                  Hybrid
  DSR Dispatch Mode:     IP Option/Extension
    eth0:                requests up to 1484 (IPv4) and 1468 bytes (IPv6) fit into its MTU of 1500
  Backend Selection:     Random
";
        assert!(text.contains(mode), "{text}");
    }
}
