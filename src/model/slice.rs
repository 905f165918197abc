// SPDX-License-Identifier: Apache-2.0
//! Endpoint slices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{ObjectName, Protocol};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Matches [`super::ServicePort::name`].
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// `hints` of an endpoint: for whom it is meant. Most endpoints have none, and many have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    pub zones: Vec<Arc<str>>,
    pub nodes: Vec<Arc<str>>,
}

/// One endpoint. Conditions are resolved: an absent `ready` or `serving` counts as true, an absent
/// `terminating` as false (discovery.k8s.io/v1 EndpointConditions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The first address; the API guarantees that all are the same pod.
    pub ip: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<Arc<str>>,
    /// None: neither for zones nor for nodes.
    pub hints: Option<Arc<Hints>>,
}

impl Endpoint {
    /// Zones that it is meant for; none: not said.
    pub fn hint_zones(&self) -> &[Arc<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.zones)
    }

    /// Nodes that it is meant for; none: not said.
    pub fn hint_nodes(&self) -> &[Arc<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.nodes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub name: ObjectName,
    /// From the label `kubernetes.io/service-name`.
    pub service: ObjectName,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`, nanoseconds since the Unix epoch.
    pub triggered: Option<i64>,
    /// As in [`super::Service`].
    pub annotations: BTreeMap<String, String>,
}

impl EndpointSlice {
    /// Family of its endpoints, which are of one; None while there are none.
    pub fn is_v6(&self) -> Option<bool> {
        self.endpoints.first().map(|endpoint| endpoint.ip.is_ipv6())
    }
}
