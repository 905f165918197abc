// SPDX-License-Identifier: Apache-2.0
//! Pods: only what forwarding needs of them.

use std::net::IpAddr;

use super::{ObjectName, Protocol};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// None: every address of the node. The unspecified address: every one of its family.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: ObjectName,
    pub uid: String,
    /// Seconds since the Unix epoch; 0 where the source does not say.
    pub created: i64,
    pub node: Option<String>,
    pub ips: Vec<IpAddr>,
    pub host_network: bool,
    /// Phase `Succeeded` or `Failed`: its addresses are no longer its own.
    pub finished: bool,
    pub host_ports: Vec<HostPort>,
    pub annotations: std::collections::BTreeMap<String, String>,
}
