// SPDX-License-Identifier: Apache-2.0
//! The agent's one validated configuration: flags, environment and file.
//!
//! Precedence: flag, then environment, then file, then default. Every name, default and sentence
//! of documentation comes from one table ([`keys::KEYS`]), every impossible combination from
//! another ([`rules`]).

pub mod args;
mod defaults;
pub mod docs;
pub mod keys;
mod later;
mod resolve;
pub mod rules;
mod stray;
mod to_abi;
pub mod value;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use resolve::{Error, HostFacts, Inputs};
pub use value::{
    Acceleration, Algorithm, DsrDispatch, KubeProxyReplacement, LbMode, LogFormat, LogLevel,
    NodePortAddresses, PortRange, RoutingMode, Seed,
};

/// Where the configuration file is looked for unless `--config` names another.
pub const DEFAULT_FILE: &str = "/etc/culvert/culvert.yaml";

/// Everything an agent is told. A value of this type has passed every rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This node's name in Kubernetes.
    pub node_name: String,
    /// Directory of YAML to serve from instead of an API server.
    pub manifests: Option<PathBuf>,
    pub k8s: Kubernetes,
    pub kube_proxy_replacement: KubeProxyReplacement,
    /// Where `/healthz`, `/livez`, `/readyz` and `/metrics` are served. At least one.
    pub healthz_bind: Vec<SocketAddr>,
    /// An update that waits longer than this makes `/healthz` answer 503.
    pub healthz_timeout: Duration,
    pub node_port: NodePort,
    /// Serve `externalIPs` and LoadBalancer addresses.
    pub external_ips: bool,
    /// Serve externalIPs that the node does not own to pods and the node itself too.
    pub external_ips_inside: bool,
    /// Serve `hostPort` of pods.
    pub host_port: bool,
    pub load_balancer: LoadBalancer,
    /// Of `loadBalancer.algorithm: maglev`; the same on all nodes.
    pub maglev_seed: Seed,
    pub socket_lb: SocketLb,
    pub routing_mode: RoutingMode,
    /// Install a route to every other node's pods.
    pub auto_direct_node_routes: bool,
    /// Destinations that the network routes by itself.
    pub ipv4_native_routing_cidr: Option<Ipv4Net>,
    pub ipv6_native_routing_cidr: Option<Ipv6Net>,
    /// External devices; a trailing `+` matches any ending. Empty: those with a default route or
    /// a node address.
    pub devices: Vec<String>,
    /// Of pod devices, in bytes; 0 takes that of the external device.
    pub mtu: u32,
    /// Root of the cgroup v2 tree whose processes are load-balanced.
    pub cgroup_root: PathBuf,
    /// Directory on a bpffs for pinned maps and links.
    pub bpf_root: PathBuf,
    pub state_dir: PathBuf,
    /// Of the agent's local API.
    pub socket: PathBuf,
    pub bpf: Bpf,
    pub flow_timeouts: FlowTimeouts,
    pub cni: Cni,
    pub debug: bool,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    /// What the reader should hear at start: deprecated names and values.
    pub warnings: Vec<String>,
}

/// How the API server is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kubernetes {
    /// Host name or address, without scheme.
    pub service_host: Option<String>,
    pub service_port: u16,
    /// Servers of one cluster, tried in the order of their health. Used instead of `service_host`.
    pub api_server_urls: Vec<String>,
    pub kubeconfig: Option<PathBuf>,
    /// Value of the label `service.kubernetes.io/service-proxy-name` that is ours.
    pub service_proxy_name: Option<String>,
}

/// Where services, slices, nodes and pods come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Kube(Kubernetes),
    Manifests { dir: PathBuf },
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodePort {
    pub enabled: bool,
    /// Inclusive.
    pub range: PortRange,
    /// Owned addresses that serve NodePorts.
    pub addresses: NodePortAddresses,
    /// Refuse `bind()` to a port that a service owns.
    pub bind_protection: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancer {
    pub mode: LbMode,
    pub algorithm: Algorithm,
    pub acceleration: Acceleration,
    pub dsr_dispatch: DsrDispatch,
    /// Holds the key that proves a request to come from a node: 32 hexadecimal digits.
    pub dsr_key_file: Option<PathBuf>,
    /// Requests carry no proof, and none is asked for.
    pub dsr_plain: bool,
    /// loadBalancerSourceRanges also guard NodePorts and externalIPs.
    pub source_ranges_all_types: bool,
    /// Values of `spec.loadBalancerClass` whose addresses are ours alone.
    pub classes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SocketLb {
    pub enabled: bool,
    /// Leave the sockets of pods alone; their packets are served in `bpf_lxc`.
    pub host_namespace_only: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bpf {
    /// Route through the host's stack even where BPF could.
    pub host_legacy_routing: bool,
    /// Drop what a pod sends with an address that is not its own.
    pub source_check: bool,
    /// Source ports that SNAT may take, inclusive.
    pub snat_port_range: PortRange,
    /// Source of a pod's packet to itself through its own service.
    pub hairpin_v4: Ipv4Addr,
    pub hairpin_v6: Ipv6Addr,
    pub services_max: u32,
    pub backends_max: u32,
    pub targets_max: u32,
    pub flows_max: u32,
    pub flows_new_max: u32,
    pub endpoints_max: u32,
    pub owned_max: u32,
    pub vips_max: u32,
    pub source_ranges_max: u32,
    pub affinities_max: u32,
    /// Entries of map `maglev`, eight bytes each.
    pub maglev_max: u32,
}

/// How long a flow without packets is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowTimeouts {
    pub tcp_syn: Duration,
    pub tcp_established: Duration,
    pub tcp_closing: Duration,
    pub udp_unreplied: Duration,
    pub udp_stream: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cni {
    /// Write the network configuration once the agent is ready.
    pub install: bool,
    /// Directory that the container runtime reads.
    pub conf_path: PathBuf,
    /// Rename other networks' configurations to `*.culvert_bak`.
    pub exclusive: bool,
}

impl Config {
    /// What the objects are read from.
    pub fn source(&self) -> Source {
        match &self.manifests {
            Some(dir) => Source::Manifests { dir: dir.clone() },
            None => Source::Kube(self.k8s.clone()),
        }
    }

    /// # Errors
    /// There is none: an agent has nothing to do.
    pub fn check_source(&self) -> Result<(), Error> {
        let k8s = &self.k8s;
        let server = k8s.service_host.is_some()
            || k8s.kubeconfig.is_some()
            || !k8s.api_server_urls.is_empty();
        if server || self.manifests.is_some() { Ok(()) } else { Err(Error::NoSource) }
    }

    /// Whether programs may forward past the host's stack. Beside kube-proxy they may not: its rules
    /// translate there, and an answer that goes past them keeps the pod's address.
    pub fn may_pass_the_stack(&self) -> bool {
        self.kube_proxy_replacement != KubeProxyReplacement::False && !self.bpf.host_legacy_routing
    }

    /// What the network routes by itself, IPv4 first.
    pub fn native_routing_cidrs(&self) -> Vec<IpNet> {
        let v4 = self.ipv4_native_routing_cidr.map(IpNet::V4);
        v4.into_iter().chain(self.ipv6_native_routing_cidr.map(IpNet::V6)).collect()
    }
}
