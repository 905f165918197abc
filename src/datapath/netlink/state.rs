// SPDX-License-Identifier: Apache-2.0
//! What is known of the node's network, and what each change of it means. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::message::{Address, Event, Local};
use super::{Filter, Link, Serving, Uplink, View};
use crate::abi::{Addr, OWNED_LOOPBACK, OWNED_NODEPORT, Owned};

/// Neighbours remembered. A network with more has its routes looked up again now and then.
const NEIGHBOURS_MAX: usize = 65536;

/// Addresses of a local route that are owned one by one; those of a shorter prefix are not.
const LOCAL_ROUTE_MAX: usize = 256;

/// Addresses that local routes of more than one address may bring together.
const LOCAL_ROUTES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) links: BTreeMap<u32, Link>,
    /// In the kernel's order, which is the order of preference.
    pub(super) addresses: Vec<Address>,
    /// Local routes that no address brought, and their devices.
    pub(super) locals: BTreeMap<IpNet, u32>,
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
    /// The default and the local routes must be read again.
    pub(super) routes: bool,
}

impl Effect {
    pub(super) fn merge(&mut self, other: Self) {
        self.view |= other.view;
        self.epoch |= other.epoch;
        self.routes |= other.routes;
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
                // The kernel does not tell of each route that a device takes along.
                Some(_) => Effect { view: true, epoch: true, routes: self.has_local(ifindex) },
            },
            Event::LinkGone { ifindex } => {
                self.links.remove(&ifindex);
                self.addresses.retain(|each| each.ifindex != ifindex);
                self.neighbours.retain(|(on, _), _| *on != ifindex);
                self.defaults.remove(&ifindex);
                Effect { view: true, epoch: true, routes: self.has_local(ifindex) }
            }
            Event::Local(Local { ifindex, net }) => {
                let changed = self.locals.insert(net, ifindex) != Some(ifindex);
                Effect { view: changed, ..nothing }
            }
            Event::LocalGone { net } => {
                Effect { view: self.locals.remove(&net).is_some(), ..nothing }
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
            Event::Route { default } => Effect { epoch: true, routes: default, ..nothing },
            Event::Neighbour { ifindex, ip, mac, failed } => {
                Effect { epoch: self.neighbour((ifindex, ip), mac, failed), ..nothing }
            }
        }
    }

    fn has_local(&self, ifindex: u32) -> bool {
        self.locals.values().any(|on| *on == ifindex)
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
        let addresses = self.addresses.iter().map(|each| (each.net.addr(), each.ifindex));
        for (ip, ifindex) in addresses.chain(self.local_addresses()) {
            let flags = match (served(&ip), ip.is_loopback()) {
                (false, _) => 0,
                (true, false) => OWNED_NODEPORT,
                (true, true) => OWNED_LOOPBACK,
            };
            // The same address on two devices: the first keeps it.
            owned.entry(ip.into()).or_insert(Owned { ifindex, flags });
        }
        owned
    }

    /// What local routes make the node's. A prefix with more addresses than a map should hold makes
    /// none of them ours: who serves on all of it has no service's address there.
    fn local_addresses(&self) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
        let mut left = LOCAL_ROUTES_MAX;
        self.locals.iter().flat_map(move |(net, &ifindex)| {
            let bits = u32::from(net.max_prefix_len() - net.prefix_len());
            let size = 1_usize.checked_shl(bits).unwrap_or(usize::MAX);
            let fits = size == 1 || (size <= LOCAL_ROUTE_MAX && size <= left);
            left -= if fits && size > 1 { size } else { 0 };
            let whole = fits.then(|| hosts(net)).into_iter().flatten();
            whole.map(move |ip| (ip, ifindex))
        })
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
        (defaults, locals): (BTreeSet<u32>, BTreeMap<IpNet, u32>),
        neighbours: impl IntoIterator<Item = Event>,
    ) {
        self.links = links;
        self.addresses = addresses;
        self.defaults = defaults;
        self.locals = locals;
        self.neighbours.clear();
        for event in neighbours {
            self.apply(event);
        }
    }
}

/// Every address of `net`, the first and the last too.
fn hosts(net: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    let hosts = net.subnets(net.max_prefix_len());
    hosts.into_iter().flatten().map(|host| host.addr())
}

#[cfg(test)]
mod tests;
