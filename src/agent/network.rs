// SPDX-License-Identifier: Apache-2.0
//! Pure: what this node's devices and addresses mean to the datapath.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::abi::{Addr, OWNED_LOOPBACK, OWNED_NODEPORT, Owned};
use crate::cni::names;
use crate::config::Config;
use crate::route::OnLink;

/// One device of the node's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub ifindex: u32,
    pub name: String,
    pub mtu: u32,
    pub loopback: bool,
}

/// One address of a device, with the prefix that is on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub net: IpNet,
    pub ifindex: u32,
    /// May be a source address: neither tentative nor deprecated, and of global scope.
    pub source: bool,
}

/// The node's network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub devices: Vec<Device>,
    pub addresses: Vec<Address>,
    /// Devices of the main table's default routes.
    pub default_devices: BTreeSet<u32>,
}

impl Network {
    /// The external devices: those that `devices` names, or else those with a default route or one
    /// of the node's own addresses. Never a pod's device.
    pub fn uplinks(&self, config: &Config, node_ips: &[IpAddr]) -> Vec<&Device> {
        let chosen = |device: &&Device| {
            if !config.devices.is_empty() {
                return config.devices.iter().any(|pattern| matches(pattern, &device.name));
            }
            let has = |ip: &IpAddr| {
                self.addresses.iter().any(|a| a.ifindex == device.ifindex && a.net.addr() == *ip)
            };
            self.default_devices.contains(&device.ifindex) || node_ips.iter().any(has)
        };
        let external =
            |device: &&Device| !device.loopback && !device.name.starts_with(names::PREFIX);
        self.devices.iter().filter(external).filter(chosen).collect()
    }

    /// Content of map `owned`.
    pub fn owned(&self, config: &Config) -> BTreeMap<Addr, Owned> {
        let loopback: BTreeSet<u32> =
            self.devices.iter().filter(|d| d.loopback).map(|d| d.ifindex).collect();
        let mut owned = BTreeMap::new();
        for address in &self.addresses {
            let ip = address.net.addr();
            let flags = if !config.serves_node_ports_on(ip) {
                0
            } else if ip.is_loopback() {
                OWNED_LOOPBACK
            } else if is_link_local(ip) {
                0
            } else {
                OWNED_NODEPORT
            };
            let value = Owned { ifindex: address.ifindex, flags };
            // An address that a device has besides the loopback device is that device's.
            let better = |old: &Owned| loopback.contains(&old.ifindex);
            let entry = owned.entry(Addr::from(ip)).or_insert(value);
            if better(entry) {
                *entry = value;
            }
        }
        owned
    }

    /// What SNAT puts into packets that leave by a device: the node's own address where the device
    /// has it, else its first of that family.
    pub fn snat(&self, ifindex: u32, v6: bool, node_ips: &[IpAddr]) -> Option<IpAddr> {
        let mut candidates: Vec<IpAddr> = self
            .addresses
            .iter()
            .filter(|a| a.ifindex == ifindex && a.source)
            .map(|a| a.net.addr())
            .filter(|ip| ip.is_ipv6() == v6 && !ip.is_loopback() && !is_link_local(*ip))
            .collect();
        candidates.sort_by_key(|ip| !node_ips.contains(ip));
        candidates.first().copied()
    }

    /// The prefixes that are on the links of `devices`.
    pub fn on_link(&self, devices: &BTreeSet<u32>) -> Vec<OnLink> {
        let on = self.addresses.iter().filter(|a| devices.contains(&a.ifindex));
        on.map(|a| OnLink { net: a.net, ifindex: a.ifindex }).collect()
    }

    pub fn addresses_of(&self, ifindex: u32) -> Vec<IpAddr> {
        self.addresses.iter().filter(|a| a.ifindex == ifindex).map(|a| a.net.addr()).collect()
    }
}

/// A trailing `+` matches any ending, as in iptables.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let device = |ifindex, name: &str| Device {
            ifindex,
            name: name.into(),
            mtu: 1500,
            loopback: name == "lo",
        };
        let address =
            |ifindex, net: &str, source| Address { net: net.parse().unwrap(), ifindex, source };
        Network {
            devices: vec![
                device(1, "lo"),
                device(2, "eth0"),
                device(3, "eth1"),
                device(4, "lxc0123456789ab"),
                device(5, "dummy0"),
            ],
            addresses: vec![
                address(1, "127.0.0.1/8", true),
                address(1, "192.0.2.9/32", true),
                address(2, "10.9.0.7/24", true),
                address(2, "10.9.0.1/24", true),
                address(2, "fe80::1/64", false),
                address(2, "fd09::1/64", false),
                address(3, "10.8.0.1/24", true),
                address(5, "192.0.2.9/32", true),
            ],
            default_devices: BTreeSet::from([2, 4]),
        }
    }

    fn names(devices: Vec<&Device>) -> Vec<&str> {
        devices.into_iter().map(|device| device.name.as_str()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn uplinks_have_a_default_route_or_an_address_of_the_node() {
        let network = network();
        let config = Config::default();
        assert_eq!(names(network.uplinks(&config, &[])), ["eth0"]);
        assert_eq!(names(network.uplinks(&config, &[ip("10.8.0.1")])), ["eth0", "eth1"]);
    }

    #[test]
    fn named_devices_are_the_only_uplinks() {
        let network = network();
        let mut config = Config { devices: vec!["eth1".into()], ..Config::default() };
        assert_eq!(names(network.uplinks(&config, &[ip("10.9.0.1")])), ["eth1"]);
        config.devices = vec!["e+".into(), "lxc+".into()];
        assert_eq!(names(network.uplinks(&config, &[])), ["eth0", "eth1"]);
    }

    #[test]
    fn node_ports_are_served_on_every_address_but_link_local_ones() {
        let owned = network().owned(&Config::default());
        let flags = |text: &str| owned[&Addr::from(ip(text))].flags;
        assert_eq!(flags("10.9.0.1"), OWNED_NODEPORT);
        assert_eq!(flags("fd09::1"), OWNED_NODEPORT);
        assert_eq!(flags("fe80::1"), 0);
        assert_eq!(flags("127.0.0.1"), OWNED_LOOPBACK);
        assert_eq!(owned[&Addr::from(ip("192.0.2.9"))].ifindex, 5, "not the loopback device's");
    }

    #[test]
    fn chosen_node_port_addresses_are_the_only_ones() {
        let mut config = Config::default();
        config.node_port.addresses = vec!["10.8.0.0/16".parse().unwrap()];
        let owned = network().owned(&config);
        let serving: Vec<String> =
            owned.iter().filter(|(_, o)| o.flags != 0).map(|(a, _)| a.to_string()).collect();
        assert_eq!(serving, ["10.8.0.1"]);
        assert_eq!(owned.len(), 7, "all stay owned");
    }

    #[test]
    fn snat_prefers_the_nodes_address_and_takes_no_tentative_one() {
        let network = network();
        assert_eq!(network.snat(2, false, &[]), Some(ip("10.9.0.7")));
        assert_eq!(network.snat(2, false, &[ip("10.9.0.1")]), Some(ip("10.9.0.1")));
        assert_eq!(network.snat(2, true, &[]), None);
    }
}
