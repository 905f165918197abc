// SPDX-License-Identifier: Apache-2.0
//! What the agent knows of itself: filled by the control loop, served as `/v1/status`, printed by
//! `culvert status`, summed up in `/metrics` and `/readyz`.
//!
//! For every feature it tells what was asked for, what is in effect, and why the two differ.

mod feature;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::PortRange;
pub use feature::{Feature, Features};

/// One agent at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub version: String,
    /// Of the source, where the build was told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    pub node_name: String,
    /// `uname -r`.
    pub kernel: String,
    /// Unix seconds.
    pub started: i64,
    /// Sources have synced, everything is attached and nothing waits for a retry.
    pub ready: bool,
    /// What keeps `ready` from being true.
    pub waiting_for: Vec<String>,
    pub sources: Vec<Source>,
    pub features: Features,
    pub node_port: NodePort,
    /// Of services, those that are obeyed.
    pub annotations: Vec<String>,
    pub devices: Vec<Device>,
    /// Directory whose processes' sockets are load-balanced.
    pub cgroup_root: String,
    pub pod_cidrs: Vec<String>,
    /// What the network routes by itself.
    pub native_routing_cidrs: Vec<ipnet::IpNet>,
    pub sync: Sync,
    /// Kernel settings that this agent changed when it started.
    pub sysctls: Vec<Sysctl>,
    pub maps: Vec<MapFill>,
    pub programs: Vec<Program>,
    pub endpoints: Vec<Endpoint>,
    /// What the agent tries again, in its own words.
    pub problems: Vec<Problem>,
}

/// Where objects come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// `kube https://10.0.0.1:6443` or `manifests /etc/culvert/manifests`.
    pub name: String,
    /// The last exchange succeeded.
    pub connected: bool,
    /// Every kind has been listed once.
    pub synced: bool,
    pub problems: Vec<Problem>,
    /// API servers in the order of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// How often a list or watch ended before its time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

/// An API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    pub url: String,
    /// It answered last, and is asked first.
    pub in_use: bool,
    pub failures: u64,
    /// Why it is left aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trouble {
    pub kind: String,
    /// `connection`, `timeout`, `tls`, `unavailable`, `unauthorized`, `forbidden`, `expired` …
    pub reason: String,
    pub count: u64,
}

/// A kernel setting that was another before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sysctl {
    pub key: String,
    pub old: String,
    pub new: String,
}

impl From<crate::datapath::sysctl::Changed> for Sysctl {
    fn from(changed: crate::datapath::sysctl::Changed) -> Self {
        Self { key: changed.key, old: changed.old, new: changed.new }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub subject: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePort {
    /// Inclusive.
    pub min: u16,
    pub max: u16,
}

impl From<PortRange> for NodePort {
    fn from(range: PortRange) -> Self {
        Self { min: range.min, max: range.max }
    }
}

/// An external device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub name: String,
    pub ifindex: u32,
    pub addresses: Vec<IpAddr>,
    /// Routes to other nodes go out of it.
    #[serde(default)]
    pub direct_routing: bool,
    /// How the programs hang on it: `tcx`, `clsact`, or empty when they do not.
    #[serde(default)]
    pub attached: String,
    /// Why they do not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// Who runs the driver hook: `native`, `generic`, or empty where tc serves alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub acceleration: String,
    /// Why it is not better, where it was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub acceleration_problem: String,
    /// Bytes of an IP packet.
    #[serde(default)]
    pub mtu: u32,
    /// The largest request that fits when it leaves here by direct server return, IPv4 first. None
    /// where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsr_mtu: Option<[u32; 2]>,
}

/// How far map content is behind the sources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sync {
    pub services: u64,
    pub frontends: u64,
    /// Those by what they are: `ClusterIP`, `NodePort` …
    pub frontend_types: BTreeMap<String, u64>,
    /// Slots of backend lists.
    pub backends: u64,
    /// Those of them that finish old connections, and those that count as endpoints and get none.
    pub backends_terminating: u64,
    pub backends_not_ready: u64,
    /// Service ports with policy Local and endpoints, of which none is on this node.
    /// IPv4 first.
    pub no_local_internal: [u64; 2],
    pub no_local_external: [u64; 2],
    /// Services whose writes are not done yet.
    pub pending: u64,
    /// Unix seconds of the last successful write of everything that was due; 0: none yet.
    pub last_success: i64,
    /// Of the last one, in microseconds.
    pub last_duration_micros: u64,
    pub failures: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MapFill {
    pub name: String,
    pub entries: u64,
    pub max_entries: u64,
}

/// A loaded program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Program {
    pub name: String,
    /// Instructions that the verifier walked through.
    pub verified_instructions: u64,
}

/// A pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// `namespace/name`, where the runtime said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    pub container_id: String,
    /// Host side of the veth pair.
    pub device: String,
    pub addresses: Vec<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_agents_status_is_read_by_an_older_client() {
        let json = r#"{"nodeName":"a","somethingNew":1,"devices":
            [{"name":"eth0","ifindex":2,"addresses":["10.0.0.1","fd00::1"],"shiny":true}]}"#;
        let status: Status = serde_json::from_str(json).unwrap();
        assert_eq!(status.devices[0].addresses.len(), 2);
        assert!(!status.devices[0].direct_routing);
    }
}
