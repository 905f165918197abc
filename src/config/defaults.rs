// SPDX-License-Identifier: Apache-2.0
//! What is set where nobody says anything.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Acceleration, Algorithm, Bpf, Cni, Config, DsrDispatch, FlowTimeouts, KubeProxyReplacement,
    Kubernetes, LbMode, LoadBalancer, LogFormat, LogLevel, NodePort, NodePortAddresses, PortRange,
    RoutingMode, Seed, SocketLb,
};

/// Before anything is read. Fields whose default depends on the host are blank until
/// [`Inputs::resolve`] fills them.
impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            manifests: None,
            k8s: Kubernetes { service_port: 443, ..Kubernetes::default() },
            kube_proxy_replacement: KubeProxyReplacement::True,
            healthz_bind: vec![SocketAddr::from(([0, 0, 0, 0], 1025))],
            healthz_timeout: Duration::from_secs(60),
            node_port: NodePort {
                enabled: true,
                range: PortRange { min: 30000, max: 32767 },
                addresses: NodePortAddresses::Nets(Vec::new()),
                bind_protection: true,
            },
            external_ips: true,
            external_ips_inside: false,
            host_port: true,
            load_balancer: LoadBalancer {
                mode: LbMode::Snat,
                algorithm: Algorithm::Random,
                acceleration: Acceleration::Disabled,
                dsr_dispatch: DsrDispatch::Opt,
                dsr_key_file: None,
                dsr_plain: false,
                source_ranges_all_types: false,
                classes: Vec::new(),
            },
            maglev_seed: Seed::DEFAULT,
            socket_lb: SocketLb { enabled: true, host_namespace_only: false },
            routing_mode: RoutingMode::Native,
            auto_direct_node_routes: false,
            ipv4_native_routing_cidr: None,
            ipv6_native_routing_cidr: None,
            devices: Vec::new(),
            mtu: 0,
            cgroup_root: PathBuf::new(),
            bpf_root: PathBuf::from("/sys/fs/bpf/culvert"),
            state_dir: PathBuf::from("/run/culvert"),
            socket: PathBuf::new(),
            bpf: Bpf::default(),
            flow_timeouts: FlowTimeouts::default(),
            cni: Cni {
                install: true,
                conf_path: PathBuf::from("/etc/cni/net.d"),
                exclusive: false,
            },
            debug: false,
            log_level: LogLevel("info".to_owned()),
            log_format: LogFormat::Text,
            warnings: Vec::new(),
        }
    }
}

impl Default for Bpf {
    fn default() -> Self {
        Self {
            host_legacy_routing: false,
            source_check: true,
            snat_port_range: PortRange::EMPTY,
            hairpin_v4: Ipv4Addr::new(169, 254, 42, 1),
            hairpin_v6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x42, 1),
            services_max: 65_536,
            backends_max: 262_144,
            targets_max: 262_144,
            flows_max: 524_288,
            flows_new_max: 65_536,
            endpoints_max: 4_096,
            owned_max: 4_096,
            vips_max: 65_536,
            source_ranges_max: 65_536,
            affinities_max: 65_536,
            maglev_max: 0,
        }
    }
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp_syn: Duration::from_secs(60),
            // Longer than the two hours after which TCP's own keepalive speaks, so that an idle
            // connection which keeps itself alive is never forgotten.
            tcp_established: Duration::from_secs(8000),
            tcp_closing: Duration::from_secs(10),
            udp_unreplied: Duration::from_secs(30),
            udp_stream: Duration::from_secs(120),
        }
    }
}
