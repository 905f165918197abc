// SPDX-License-Identifier: Apache-2.0
//! The node under test with its services, and the same services as the model sees them.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use culvert::abi::ServiceKind;

use super::view::{SCTP, TCP, UDP};
use crate::support::node::{FAMILIES, Family, Node};
use crate::support::objects::Frontend;

/// Where a packet meets the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    FromNetdev,
    FromContainer,
    ToNetdev,
    ToContainer,
}

impl Entry {
    pub const ALL: [Self; 4] =
        [Self::FromNetdev, Self::FromContainer, Self::ToNetdev, Self::ToContainer];

    pub fn program(self) -> &'static str {
        match self {
            Self::FromNetdev => "from_netdev",
            Self::FromContainer => "from_container",
            Self::ToNetdev => "to_netdev",
            Self::ToContainer => "to_container",
        }
    }
}

/// One frontend to the model.
#[derive(Clone, Debug)]
pub struct Served {
    pub cluster_ip: bool,
    pub backends: BTreeSet<SocketAddr>,
}

pub struct World {
    pub node: Node,
    pub frontends: HashMap<(SocketAddr, u8), Served>,
}

/// Addresses that only this test knows, by family.
pub fn cluster_ip(family: Family) -> &'static str {
    if family.v6 { "fd00:96::a" } else { "10.96.0.10" }
}

pub fn other_remote(family: Family) -> &'static str {
    if family.v6 { "fd00:2::6" } else { "10.244.2.6" }
}

/// Frontend address, port, protocol, kind and backends. The host part `None` is the node's own.
type Row = (Option<&'static str>, u16, u8, ServiceKind, Vec<String>);

impl World {
    pub fn new() -> Self {
        let mut world = Self { node: Node::new(), frontends: HashMap::new() };
        for family in FAMILIES {
            for row in rows(family) {
                world.serve(family, row);
            }
        }
        world
    }

    fn serve(&mut self, family: Family, (host, port, proto, kind, backends): Row) {
        let frontend = match host {
            Some(host) => Frontend::cluster_ip(&family.at(host, port), proto).kind(kind),
            None if family.v6 => Frontend::node_port_v6(port, proto),
            None => Frontend::node_port_v4(port, proto),
        };
        let names: Vec<&str> = backends.iter().map(String::as_str).collect();
        self.node.objects.serve(frontend, &names);
        let host: IpAddr = host.unwrap_or(family.node).parse().unwrap();
        let served = Served {
            cluster_ip: kind == ServiceKind::ClusterIp,
            backends: backends.iter().map(|each| each.parse().unwrap()).collect(),
        };
        self.frontends.insert((SocketAddr::new(host, port), proto), served);
    }

    /// The device a packet of `entry` is met on.
    pub fn ifindex(&self, entry: Entry) -> u32 {
        match entry {
            Entry::FromNetdev | Entry::ToNetdev => self.node.uplink,
            Entry::FromContainer | Entry::ToContainer => self.node.pod,
        }
    }
}

fn rows(family: Family) -> Vec<Row> {
    let at = |host: &str, port: u16| family.at(host, port);
    let mixed =
        || vec![at(family.remote, 8080), at(family.pod, 8080), at(other_remote(family), 81)];
    let node = || vec![at(family.node, 8443), at(family.other_pod, 9090)];
    vec![
        (None, 30080, TCP, ServiceKind::NodePort, mixed()),
        (None, 30080, UDP, ServiceKind::NodePort, mixed()),
        (None, 30443, TCP, ServiceKind::NodePort, node()),
        (Some(family.vip), 80, TCP, ServiceKind::LoadBalancer, mixed()),
        (Some(family.vip), 53, UDP, ServiceKind::ExternalIp, mixed()),
        (Some(family.vip), 81, TCP, ServiceKind::LoadBalancer, vec![]),
        (Some(family.vip), 82, UDP, ServiceKind::LoadBalancer, vec![]),
        (Some(family.vip), 9000, SCTP, ServiceKind::LoadBalancer, vec![at(family.remote, 9000)]),
        (Some(cluster_ip(family)), 80, TCP, ServiceKind::ClusterIp, mixed()),
        (Some(cluster_ip(family)), 53, UDP, ServiceKind::ClusterIp, mixed()),
        (Some(cluster_ip(family)), 8080, TCP, ServiceKind::ClusterIp, vec![at(family.pod, 8080)]),
    ]
}
