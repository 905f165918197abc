// SPDX-License-Identifier: Apache-2.0
//! Golden text against the lines of notes S001 and S004.

use std::path::Path;

use super::*;
use crate::agent::features;
use crate::agent::status::{Features, MapFill, NodePort, Program, Source, Sync, Sysctl};
use crate::config::Config;
use crate::datapath::probe;

pub(in crate::cli::status) fn status() -> Status {
    // As an agent says it on a kernel that has everything, but for a driver without XDP.
    let config = Config::default();
    let mut probe = probe::run(Path::new("/nowhere"));
    probe.features.iter_mut().for_each(|feature| feature.present = true);
    let dsr = (Feature::as_requested("SNAT"), Feature::as_requested("IP Option/Extension"));
    let features = Features {
        xdp_acceleration: Feature::instead(
            "Best-Effort",
            "Disabled",
            "eth0 in tc: the driver has no XDP",
        ),
        ..features::of(&config, &probe, true, dsr)
    };
    Status {
        version: "0.1.0".into(),
        node_name: "node-1".into(),
        kernel: "6.18.0".into(),
        ready: true,
        sources: vec![Source {
            name: "kube https://10.0.0.1:6443".into(),
            connected: true,
            synced: true,
            ..Source::default()
        }],
        features,
        node_port: NodePort { min: 30000, max: 60000 },
        devices: vec![Device {
            name: "eth0".into(),
            ifindex: 2,
            addresses: ["10.0.0.1", "fd00::1", "fe80::184:8e89:83fd:7ccc"]
                .map(|text| text.parse().unwrap())
                .into(),
            direct_routing: true,
            attached: "tcx".into(),
            problem: String::new(),
            acceleration: String::new(),
            acceleration_problem: "the driver has no XDP".into(),
            mtu: 1500,
            dsr_mtu: None,
        }],
        cgroup_root: "/run/culvert/cgroupv2".into(),
        sync: Sync { services: 2, frontends: 5, backends: 4, ..Sync::default() },
        sysctls: vec![Sysctl {
            key: "net.ipv4.ip_forward".into(),
            old: "0".into(),
            new: "1".into(),
        }],
        maps: vec![MapFill { name: "services".into(), entries: 5, max_entries: 65536 }],
        programs: vec![Program { name: "from_netdev".into(), verified_instructions: 1234 }],
        ..Status::default()
    }
}

#[test]
fn the_short_form_has_the_lines_of_the_notes() {
    assert_eq!(
        lines(&status()),
        "\
Agent:                   OK   culvert 0.1.0 on node node-1, kernel 6.18.0
Source:                  OK   kube https://10.0.0.1:6443
KubeProxyReplacement:    True   [eth0    10.0.0.1 fd00::1 fe80::184:8e89:83fd:7ccc (Direct Routing)]
Routing:                 Network: Native   Host: BPF
Host Routing:            BPF
Masquerading:            Disabled (not in this version)
BandwidthManager:        Disabled (not in this version)
IPv6 BIG TCP:            Disabled (not in this version)
NetworkPolicy:           Not supported
Services:                2 served, 5 frontends, 4 backend slots
Pods:                    0 on this node
"
    );
}

#[test]
fn what_differs_from_the_request_says_why() {
    let mut status = status();
    status.features.host_routing =
        Feature::instead("BPF", "Legacy", "the kernel lacks redirect_peer");
    let text = lines(&status);
    let line = "Host Routing:            Legacy (requested BPF: the kernel lacks \
                redirect_peer)\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("Network: Native   Host: Legacy\n"), "{text}");
}

#[test]
fn what_is_wrong_is_on_top_or_called_a_problem() {
    let mut status = status();
    status.ready = false;
    status.waiting_for = vec!["the first write of all services".into()];
    status.sync.pending = 3;
    status.sources[0].connected = false;
    status.sources[0].problems = vec![Problem {
        subject: "web.yaml document 2 line 19 (Service far)".into(),
        message: "`spec.ports[1].port` is 70000, not a number from 1 to 65535".into(),
    }];
    status.devices[0].problem = "cannot attach `from_netdev` to `eth0`".into();
    let text = lines(&status);
    for line in [
        "Agent:                   Waiting for the first write of all services   culvert",
        "Source:                  Away, serving what is known   kube",
        "Problem:                 eth0: cannot attach `from_netdev` to `eth0`\n",
        "Problem:                 web.yaml document 2 line 19 (Service far): `spec.ports[1].port` is 70000, \
         not a number from 1 to 65535\n",
        "4 backend slots, 3 not written yet\n",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn several_api_servers_each_have_a_line() {
    let mut status = status();
    let server = |url: &str, in_use, problem: Option<&str>| Server {
        url: url.into(),
        in_use,
        failures: 0,
        problem: problem.map(str::to_owned),
    };
    status.sources[0].servers = vec![server("https://a:6443", true, None)];
    assert!(!lines(&status).contains("API server:"));
    status.sources[0].servers = vec![
        server("https://a:6443", false, Some("connection refused")),
        server("https://b:6443", true, None),
        server("https://c:6443", false, None),
    ];
    let text = lines(&status);
    for line in [
        "API server:              Left aside (connection refused)   https://a:6443\n",
        "API server:              In use   https://b:6443\n",
        "API server:              Standing by   https://c:6443\n",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}
