// SPDX-License-Identifier: Apache-2.0
//! Services as the load balancer sees them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::ObjectName;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// `IPPROTO_*`.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// As Kubernetes writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
}

impl ServiceType {
    /// As `spec.type` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// `externalTrafficPolicy` and `internalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}

/// `spec.trafficDistribution`; `PreferClose` is the older name of `PreferSameZone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    PreferSameZone,
    PreferSameNode,
}

/// One address of `status.loadBalancer.ingress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressAddress {
    pub ip: IpAddr,
    /// `ipMode: Proxy`: clients in the cluster must go through the real load balancer.
    pub proxied: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for the only, unnamed port. Endpoint slices are matched by it.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// A Service that Culvert serves. Headless, ExternalName and foreign-proxy ones never get here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: ObjectName,
    pub r#type: ServiceType,
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub ingress: Vec<IngressAddress>,
    pub ports: Vec<ServicePort>,
    pub external_policy: TrafficPolicy,
    pub internal_policy: TrafficPolicy,
    /// `sessionAffinity: ClientIP`, with its timeout in seconds.
    pub affinity_timeout: Option<u32>,
    pub source_ranges: Vec<IpNet>,
    pub load_balancer_class: Option<String>,
    pub health_check_node_port: Option<u16>,
    pub distribution: Option<TrafficDistribution>,
    /// Annotations under our own prefix and those of systems people migrate from, verbatim.
    pub annotations: BTreeMap<String, String>,
    /// Of `default/kubernetes`, the API server itself: its UID. Every node of the cluster sees it, and
    /// nobody outside.
    pub cluster: Option<String>,
}
