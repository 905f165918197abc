// SPDX-License-Identifier: Apache-2.0
//! What is known of the node's network, and what each change of it means. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::message::{Address, Event};
use super::{Filter, Link, Serving, Uplink, View};
use crate::abi::{Addr, OWNED_LOOPBACK, OWNED_NODEPORT, Owned};

/// Neighbours remembered. A network with more has its routes looked up again now and then.
const NEIGHBOURS_MAX: usize = 65536;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) links: BTreeMap<u32, Link>,
    /// In the kernel's order, which is the order of preference.
    pub(super) addresses: Vec<Address>,
    /// Devices with a default route.
    pub(super) defaults: BTreeSet<u32>,
    /// Hardware addresses last known; they outlive the kernel's entry, so that a neighbour that
    /// comes back with another one is noticed.
    neighbours: HashMap<(u32, IpAddr), Vec<u8>>,
}

/// What follows from an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// The view may be another.
    pub(super) view: bool,
    /// Cached routes may be wrong.
    pub(super) epoch: bool,
    /// The default routes must be read again.
    pub(super) defaults: bool,
}

impl Effect {
    pub(super) fn merge(&mut self, other: Self) {
        self.view |= other.view;
        self.epoch |= other.epoch;
        self.defaults |= other.defaults;
    }
}

impl State {
    pub(super) fn apply(&mut self, event: Event) -> Effect {
        let nothing = Effect::default();
        match event {
            Event::Link { ifindex, link } => match self.links.insert(ifindex, link.clone()) {
                Some(before) if before == link => nothing,
                // A new device has no route yet that could be cached.
                None => Effect { view: true, ..nothing },
                Some(_) => Effect { view: true, epoch: true, ..nothing },
            },
            Event::LinkGone { ifindex } => {
                self.links.remove(&ifindex);
                self.addresses.retain(|each| each.ifindex != ifindex);
                self.neighbours.retain(|(on, _), _| *on != ifindex);
                self.defaults.remove(&ifindex);
                Effect { view: true, epoch: true, ..nothing }
            }
            Event::Address(address) => {
                let same = |each: &&mut Address| {
                    each.ifindex == address.ifindex && each.net == address.net
                };
                match self.addresses.iter_mut().find(same) {
                    Some(known) if *known == address => return nothing,
                    Some(known) => *known = address,
                    None => self.addresses.push(address),
                }
                Effect { view: true, ..nothing }
            }
            Event::AddressGone { ifindex, net } => {
                self.addresses.retain(|each| (each.ifindex, each.net) != (ifindex, net));
                Effect { view: true, ..nothing }
            }
            Event::Route { default } => Effect { epoch: true, defaults: default, ..nothing },
            Event::Neighbour { ifindex, ip, mac, failed } => {
                Effect { epoch: self.neighbour((ifindex, ip), mac, failed), ..nothing }
            }
        }
    }

    /// True when a hardware address that may be cached is no longer right. The kernel's reachable,
    /// stale, delay, probe round is not that.
    fn neighbour(&mut self, key: (u32, IpAddr), mac: Vec<u8>, failed: bool) -> bool {
        if failed {
            return self.neighbours.remove(&key).is_some();
        }
        if mac.is_empty() {
            return false;
        }
        let mut forgotten = false;
        if self.neighbours.len() >= NEIGHBOURS_MAX && !self.neighbours.contains_key(&key) {
            self.neighbours.clear();
            forgotten = true;
        }
        let before = self.neighbours.insert(key, mac.clone());
        forgotten || before.is_some_and(|before| before != mac)
    }

    pub(super) fn view(&self, filter: &Filter, route_epoch: u64) -> View {
        View {
            owned: self.owned(filter),
            uplinks: self.uplinks(filter),
            links: self.links.clone(),
            addresses: self.addresses.iter().map(|each| (each.ifindex, each.net)).collect(),
            route_epoch,
        }
    }

    fn owned(&self, filter: &Filter) -> BTreeMap<Addr, Owned> {
        // A link-local address means nothing beyond its link: what comes to it from there can
        // reach no backend elsewhere, and no answer finds the way back (RFC 4291 2.5.6).
        let served = |ip: &IpAddr| {
            !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
                && match &filter.node_port_addresses {
                    Serving::All => true,
                    Serving::Primary => {
                        let own = filter.node_ips.iter();
                        own.clone().find(|own| own.is_ipv4() == ip.is_ipv4()) == Some(ip)
                    }
                    Serving::Inside(nets) => nets.iter().any(|net| net.contains(ip)),
                }
        };
        let mut owned = BTreeMap::new();
        for Address { ifindex, net, .. } in &self.addresses {
            let ip = net.addr();
            let flags = match (served(&ip), ip.is_loopback()) {
                (false, _) => 0,
                (true, false) => OWNED_NODEPORT,
                (true, true) => OWNED_LOOPBACK,
            };
            // The same address on two devices: the first keeps it.
            owned.entry(ip.into()).or_insert(Owned { ifindex: *ifindex, flags });
        }
        owned
    }

    fn uplinks(&self, filter: &Filter) -> BTreeMap<u32, Uplink> {
        self.links
            .iter()
            .filter(|(ifindex, link)| self.is_uplink(**ifindex, link, filter))
            .map(|(&ifindex, link)| {
                let uplink = Uplink {
                    name: link.name.clone(),
                    mtu: link.mtu,
                    snat_v4: self.source(ifindex, filter, |ip| match ip {
                        IpAddr::V4(v4) => Some(v4),
                        IpAddr::V6(_) => None,
                    }),
                    snat_v6: self.source(ifindex, filter, |ip| match ip {
                        IpAddr::V4(_) => None,
                        IpAddr::V6(v6) => Some(v6),
                    }),
                };
                (ifindex, uplink)
            })
            .collect()
    }

    fn is_uplink(&self, ifindex: u32, link: &Link, filter: &Filter) -> bool {
        if link.loopback {
            return false;
        }
        if !filter.devices.is_empty() {
            return filter.devices.iter().any(|pattern| pattern.matches(&link.name));
        }
        self.defaults.contains(&ifindex)
            || self
                .addresses
                .iter()
                .any(|each| each.ifindex == ifindex && filter.node_ips.contains(&each.net.addr()))
    }

    /// What SNAT on a device uses: the node's address if the device has it, else the device's
    /// first fit one, else the node's address from wherever it is (unnumbered uplinks).
    fn source<T>(
        &self,
        ifindex: u32,
        filter: &Filter,
        family: impl Fn(IpAddr) -> Option<T>,
    ) -> Option<T> {
        let on_device = |ip: IpAddr| {
            self.addresses.iter().any(|each| each.ifindex == ifindex && each.net.addr() == ip)
        };
        let ours = |ip: IpAddr| self.addresses.iter().any(|each| each.net.addr() == ip);
        let fit = |secondary| {
            self.addresses
                .iter()
                .filter(move |each| each.source && each.secondary == secondary)
                .filter(|each| each.ifindex == ifindex)
                .map(|each| each.net.addr())
        };
        let node = || filter.node_ips.iter().copied();
        node()
            .filter(|ip| on_device(*ip))
            .chain(fit(false))
            .chain(fit(true))
            .chain(node().filter(|ip| ours(*ip)))
            .find_map(family)
    }

    /// Takes a fresh listing over. Changes that were missed move the epoch once.
    pub(super) fn relist(
        &mut self,
        links: BTreeMap<u32, Link>,
        addresses: Vec<Address>,
        defaults: BTreeSet<u32>,
        neighbours: impl IntoIterator<Item = Event>,
    ) {
        self.links = links;
        self.addresses = addresses;
        self.defaults = defaults;
        self.neighbours.clear();
        for event in neighbours {
            self.apply(event);
        }
    }
}

#[cfg(test)]
mod tests;
