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
    pub zone: Option<Arc<str>>,
    pub hint_zones: Vec<Arc<str>>,
    pub hint_nodes: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub name: ObjectName,
    /// From the label `kubernetes.io/service-name`.
    pub service: ObjectName,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`, nanoseconds since the Unix epoch.
    pub triggered: Option<i128>,
    /// As in [`super::Service`].
    pub annotations: BTreeMap<String, String>,
}

impl EndpointSlice {
    /// Family of its endpoints, which are of one; None while there are none.
    pub fn is_v6(&self) -> Option<bool> {
        self.endpoints.first().map(|endpoint| endpoint.ip.is_ipv6())
    }
}
