// SPDX-License-Identifier: Apache-2.0
//! The node's own network, kept live from the kernel: addresses, devices, routes, neighbours.
//!
//! [`watch`] publishes a [`View`] whenever it changes. [`Routes`] writes the routes to other nodes'
//! pods. Everything happens in the network namespace of the thread that starts it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::ErrorMessage;
use thiserror::Error;

use crate::abi::{Addr, Owned};

mod call;
mod devices;
mod geneve;
mod message;
mod namespace;
mod routes;
mod state;
mod watch;

pub(in crate::datapath) use call::call;
pub use devices::DevicePattern;
pub use geneve::{DEVICE as GENEVE_DEVICE, Geneve};
pub use namespace::peer_netns_number;
pub use routes::{PROTOCOL, Route, Routes};
pub use watch::watch;

/// Why the kernel's network state cannot be read or changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),

    #[error("cannot list the node's {what}")]
    List { what: &'static str, source: std::io::Error },

    #[error("the kernel stopped reporting changes of the network")]
    Closed,

    #[error("cannot {action} device `{device}`")]
    Device { action: &'static str, device: &'static str, source: std::io::Error },

    #[error("cannot {action} the route to {route}")]
    Route { action: &'static str, route: Route, source: std::io::Error },
}

fn io(error: rtnetlink::Error) -> std::io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => ErrorMessage::to_io(&message),
        other => std::io::Error::other(other),
    }
}

/// What the configuration and the Node object say about the node's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// External devices. Empty: those with a default route or with one of `node_ips`.
    pub devices: Vec<DevicePattern>,
    /// The node's InternalIPs and ExternalIPs, preferred ones first.
    pub node_ips: Vec<IpAddr>,
    pub node_port_addresses: Serving,
}

/// Which addresses of the node serve NodePorts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Serving {
    #[default]
    All,
    /// The first of `node_ips` in each family.
    Primary,
    Inside(Vec<IpNet>),
}

/// The node's network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What map `owned` should hold.
    pub owned: BTreeMap<Addr, Owned>,
    /// External devices by ifindex.
    pub uplinks: BTreeMap<u32, Uplink>,
    /// Every device by ifindex.
    pub links: BTreeMap<u32, Link>,
    /// Every address with the prefix of its link.
    pub addresses: Vec<(u32, IpNet)>,
    /// Grows whenever routes that the datapath has cached may be wrong.
    pub route_epoch: u64,
}

/// An external device, with what SNAT on it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub name: String,
    /// Bytes of an IP packet.
    pub mtu: u32,
    pub snat_v4: Option<Ipv4Addr>,
    pub snat_v6: Option<Ipv6Addr>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub mtu: u32,
    /// Administratively up and with a carrier.
    pub up: bool,
    pub loopback: bool,
    /// Hardware address; empty where a device has none.
    pub mac: Vec<u8>,
    /// `None` also where the device below is in another namespace.
    pub vlan: Option<Vlan>,
}

/// What makes a device one of a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The device below.
    pub parent: u32,
    /// The TPID and, in the lower half, the VLAN's number.
    pub tag: u32,
}
