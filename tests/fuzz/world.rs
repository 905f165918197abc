// SPDX-License-Identifier: Apache-2.0
//! The node under test with its services, and the same services as the model sees them.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use culvert::abi::{
    DsrDispatch, NODE_ADDRESS, NodeAddress, NodeKey, SERVICE_DSR, ServiceKind, XdpDevice,
    XdpVlanKey,
};
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;

use super::entry::Entry;
use super::view::{SCTP, TCP, UDP};
use crate::support::dsr::KEY;
use crate::support::node::{FAMILIES, Family, Node, ip};
use crate::support::objects::Frontend;
use crate::support::tunnelled::Tunnelled;

pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// Where a frame comes in from outside. Every way out of the node leads through the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Uplink,
    /// A device whose driver hook is ours too. VLANs lie above it.
    Second,
    /// No device of ours: that of a VLAN above `Second`.
    Elsewhere,
}

/// Tags as the wire has them, priorities left out, and the device of their VLAN above `Second`. One
/// test's device of a VLAN is any other one.
const VLANS: [(&[u8], Wire); 4] = [
    (&[0x81, 0, 0, 100], Wire::Uplink),
    (&[0x88, 0xa8, 0, 102], Wire::Uplink),
    (&[0x88, 0xa8, 0, 7, 0x81, 0, 0x0f, 0xff], Wire::Uplink),
    (&[0x88, 0xa8, 0, 100], Wire::Elsewhere),
];

/// Tags that frames carry: mostly those of a VLAN that there is.
pub const TAGS: [&[u8]; 9] = [
    VLANS[0].0,
    VLANS[0].0,
    VLANS[1].0,
    VLANS[2].0,
    VLANS[3].0,
    &[0x81, 0, 0xf0, 100],
    &[0x81, 0, 0, 99],
    &[0x81, 0, 0, 100, 0x81, 0, 0, 1],
    &[0x81, 0, 0, 100, 0x81, 0, 0, 1, 0x81, 0, 0, 2],
];

impl Wire {
    /// The device that a frame with `tags` is for, where there is one.
    pub fn device(self, tags: &[u8]) -> Option<Self> {
        if tags.is_empty() {
            return Some(self);
        }
        let mut number = tags.to_vec();
        number.chunks_mut(4).for_each(|tag| tag[2] &= 0x0f);
        let vlan = VLANS.iter().find(|(tags, _)| *tags == number);
        vlan.filter(|_| self == Self::Second).map(|(_, device)| *device)
    }
}

/// How the backends' nodes are told, and the form of options that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    Off,
    Option,
    /// Options without tag, and encapsulated packets from anyone.
    Plain,
    Ipip,
    /// Through a device, which adds the outer header: what is seen of a packet is the inner one.
    Geneve,
}

/// Clients have some of these themselves.
pub const SNAT_PORTS: RangeInclusive<u16> = 40_000..=40_255;

/// The first one signs.
pub const KEYS: [[u8; 16]; 2] = [KEY, *b"one for a change"];

/// Another node's address.
pub const fn other_node(family: Family) -> &'static str {
    if family.v6 { "fd09::2" } else { "10.9.0.2" }
}

pub fn is_node(address: IpAddr) -> bool {
    FAMILIES.iter().any(|family| other_node(*family).parse() == Ok(address))
}

/// Whether the node that `address`, a backend's, is on is known: of the others Geneve cannot ask one.
pub fn has_node(address: IpAddr) -> bool {
    FAMILIES.iter().any(|family| family.remote.parse() == Ok(address))
}

/// Whether a packet to `address` has arrived: a pod's, or the node's own.
pub fn ours(address: IpAddr) -> bool {
    FAMILIES.iter().any(|family| {
        [family.pod, family.other_pod, family.node].iter().any(|own| own.parse() == Ok(address))
    })
}

/// One frontend to the model.
#[derive(Clone, Debug)]
pub struct Served {
    pub cluster_ip: bool,
    /// Remote backends answer by themselves.
    pub direct: bool,
    pub backends: BTreeSet<SocketAddr>,
}

pub struct World {
    pub node: Node,
    second: u32,
    /// The device that requests by Geneve go through and come from: any one, for nothing is sent.
    tunnel: u32,
    overlay: Option<Tunnelled>,
    pub dispatch: Dispatch,
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
    pub fn new(dispatch: Dispatch) -> Self {
        let node = Node::with(|config| {
            config.dsr_dispatch = match dispatch {
                Dispatch::Off => DsrDispatch::Off,
                Dispatch::Option | Dispatch::Plain => DsrDispatch::Option,
                Dispatch::Ipip => DsrDispatch::Ipip,
                Dispatch::Geneve => DsrDispatch::Geneve,
            } as u8;
            // Flows expire and ports run out while the run lasts.
            (config.tcp_syn_timeout, config.tcp_established_timeout) = (3, 9);
            (config.udp_unreplied_timeout, config.udp_stream_timeout) = (2, 4);
            config.tcp_closing_timeout = 1;
            (config.snat_port_min, config.snat_port_max) = (*SNAT_PORTS.start(), *SNAT_PORTS.end());
            let plain = u8::from(dispatch == Dispatch::Plain);
            (config.dsr_plain_in, config.dsr_plain_out) = (plain, plain);
        });
        let maps = node.objects.maps();
        maps.set_dsr_keys(KEYS).unwrap();
        maps.set_dsr_sources(FAMILIES.map(|family| ip(family.node))).unwrap();
        for family in FAMILIES {
            let prefix = IpNet::from(other_node(family).parse::<IpAddr>().unwrap());
            let value = NodeAddress { addr: ip(other_node(family)), flags: NODE_ADDRESS, pad: 0 };
            maps.nodes.set(&NodeKey::new(prefix), &value).unwrap();
        }
        let [second, tunnel] = [("eth1", "wire1"), ("tunnel0", "tunnel1")].map(|(dev, peer)| {
            node.ns.ip(&format!(
                "link add {dev} address 02:00:00:00:00:01 type veth peer name {peer}"
            ));
            node.ns.ip(&format!("link set {dev} up"));
            node.ns.ip(&format!("link set {peer} up"));
            node.ns.run(|| if_nametoindex(dev).unwrap())
        });
        let overlay = (dispatch == Dispatch::Geneve)
            .then(|| Tunnelled::new(&node.objects.program("from_overlay")));
        let mut world = Self { node, second, tunnel, overlay, dispatch, frontends: HashMap::new() };
        world.fill_driver();
        if dispatch == Dispatch::Geneve {
            world.fill_tunnel();
        }
        for family in FAMILIES {
            for row in rows(family) {
                world.serve(family, row);
            }
        }
        world
    }

    /// The devices of the driver hook, and the VLANs above the second one.
    fn fill_driver(&self) {
        let maps = self.node.objects.maps();
        for device in [self.node.uplink, self.second] {
            maps.xdp_devices.set(&device, &XdpDevice { mac: NODE_MAC, pad: 0 }).unwrap();
        }
        let word = |tag: &[u8]| u32::from_be_bytes(tag.try_into().unwrap());
        for (tags, device) in VLANS {
            let inner = tags.get(4..).filter(|tag| !tag.is_empty()).map_or(0, word);
            let key = XdpVlanKey { parent: self.second, outer: word(&tags[..4]), inner };
            maps.xdp_vlans.set(&key, &self.wire(device)).unwrap();
        }
    }

    /// The tunnel device, and the nodes of those backends that [`has_node`] knows.
    fn fill_tunnel(&self) {
        let maps = self.node.objects.maps();
        maps.set_geneve(self.tunnel).unwrap();
        for family in FAMILIES {
            let prefix = IpNet::from(family.remote.parse::<IpAddr>().unwrap());
            let value = NodeAddress { addr: ip(other_node(family)), flags: 0, pad: 0 };
            maps.nodes.set(&NodeKey::new(prefix), &value).unwrap();
        }
    }

    /// The index of `wire`.
    pub fn wire(&self, wire: Wire) -> u32 {
        match wire {
            Wire::Uplink => self.node.uplink,
            Wire::Second => self.second,
            Wire::Elsewhere => self.node.other_pod,
        }
    }

    fn serve(&mut self, family: Family, (host, port, proto, kind, backends): Row) {
        let frontend = match host {
            Some(host) => Frontend::cluster_ip(&family.at(host, port), proto).kind(kind),
            None if family.v6 => Frontend::node_port_v6(port, proto),
            None => Frontend::node_port_v4(port, proto),
        };
        let names: Vec<&str> = backends.iter().map(String::as_str).collect();
        let direct = self.dispatch != Dispatch::Off
            && kind != ServiceKind::ClusterIp
            && (proto, host) != (UDP, None);
        let served = self.node.objects.serve(frontend, &names);
        if direct {
            served.change(|service| service.flags |= SERVICE_DSR);
        }
        let host: IpAddr = host.unwrap_or(family.node).parse().unwrap();
        let served = Served {
            cluster_ip: kind == ServiceKind::ClusterIp,
            direct,
            backends: backends.iter().map(|each| each.parse().unwrap()).collect(),
        };
        self.frontends.insert((SocketAddr::new(host, port), proto), served);
    }

    /// The device a packet of `entry` is met on.
    pub fn ifindex(&self, entry: Entry) -> u32 {
        match entry {
            Entry::Driver | Entry::FromNetdev | Entry::ToNetdev => self.node.uplink,
            Entry::FromContainer | Entry::ToContainer => self.node.pod,
            Entry::FromOverlay => self.tunnel,
        }
    }

    /// The action for `frame`, which the tunnel device brought with `option`, and what became of it.
    pub fn emerges(&self, frame: &[u8], option: &[u8]) -> (u32, Vec<u8>) {
        self.overlay.as_ref().unwrap().raw_inside(self.ifindex(Entry::FromOverlay), frame, option)
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
        (Some(family.vip), 83, TCP, ServiceKind::LoadBalancer, mixed()),
        (Some(family.vip), 9000, SCTP, ServiceKind::LoadBalancer, vec![at(family.remote, 9000)]),
        (Some(family.vip), 9001, SCTP, ServiceKind::LoadBalancer, vec![at(family.remote, 9000)]),
        (Some(cluster_ip(family)), 80, TCP, ServiceKind::ClusterIp, mixed()),
        (Some(cluster_ip(family)), 53, UDP, ServiceKind::ClusterIp, mixed()),
        (Some(cluster_ip(family)), 8080, TCP, ServiceKind::ClusterIp, vec![at(family.pod, 8080)]),
    ]
}
