// SPDX-License-Identifier: Apache-2.0
//! Nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressKind {
    Internal,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    pub kind: AddressKind,
    pub ip: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub addresses: Vec<NodeAddress>,
    /// `spec.podCIDRs`, or `spec.podCIDR` where only that is set.
    pub pod_cidrs: Vec<IpNet>,
    pub labels: BTreeMap<String, String>,
    /// Keys of `spec.taints`.
    pub taints: Vec<String>,
    /// A deletion timestamp is set.
    pub deleting: bool,
}

impl Node {
    /// Label `topology.kubernetes.io/zone`.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get("topology.kubernetes.io/zone").map(String::as_str)
    }

    /// InternalIPs, as the API lists them.
    pub fn internal_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let internal = self.addresses.iter().filter(|a| a.kind == AddressKind::Internal);
        internal.map(|address| address.ip)
    }
}
