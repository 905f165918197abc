// SPDX-License-Identifier: Apache-2.0
//! One CIDR: which of its addresses a pod may have, and where the search goes on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

#[derive(Clone, Debug)]
pub(super) struct Range {
    cidr: IpNet,
    /// First and last address for pods, as offsets from the network address. Empty when
    /// `last < first`.
    first: u128,
    last: u128,
    /// Offset that was given last: the search starts behind it, so that an address rests as long
    /// as possible before another pod gets it.
    cursor: u128,
}

impl Range {
    pub(super) fn new(cidr: IpNet) -> Self {
        let host_bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
        let top = 1u128.checked_shl(host_bits).unwrap_or(0).wrapping_sub(1);
        // Offset 0 names the network (and is the subnet-router anycast address of IPv6), offset 1
        // is the gateway, and IPv4's last offset is the broadcast address.
        let last = if cidr.addr().is_ipv4() { top.saturating_sub(1) } else { top };
        Self { cidr: cidr.trunc(), first: 2, last, cursor: 1 }
    }

    pub(super) fn cidr(&self) -> IpNet {
        self.cidr
    }

    pub(super) fn is(&self, cidr: IpNet) -> bool {
        self.cidr == cidr.trunc()
    }

    pub(super) fn is_v6(&self) -> bool {
        self.cidr.addr().is_ipv6()
    }

    pub(super) fn gateway(&self) -> Option<IpAddr> {
        (self.capacity() > 0).then(|| self.at(1))
    }

    pub(super) fn capacity(&self) -> u128 {
        self.last.checked_sub(self.first).map_or(0, |span| span.saturating_add(1))
    }

    pub(super) fn used(&self, holders: &BTreeMap<IpAddr, Arc<str>>) -> u128 {
        holders.range(self.at(0)..=self.cidr.broadcast()).count() as u128
    }

    pub(super) fn next_free(&self, holders: &BTreeMap<IpAddr, Arc<str>>) -> Option<IpAddr> {
        let behind = (self.cursor + 1).max(self.first)..=self.last;
        let before = self.first..=self.cursor.min(self.last);
        behind.chain(before).map(|offset| self.at(offset)).find(|ip| !holders.contains_key(ip))
    }

    /// Moves the cursor when `ip` is one of this range.
    pub(super) fn given(&mut self, ip: IpAddr) {
        if self.cidr.contains(&ip) {
            self.cursor = number(ip) - number(self.cidr.addr());
        }
    }

    fn at(&self, offset: u128) -> IpAddr {
        match self.cidr.addr() {
            IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + offset as u32).into(),
            IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + offset).into(),
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
