// SPDX-License-Identifier: Apache-2.0
//! Pure: which pod address is free, which is taken by whom.
//!
//! A [`Pool`] hands out addresses of the node's pod CIDRs, one a family. It persists nothing: who
//! uses it writes down what it got, and gives it back with [`Pool::restore`] after a restart.

mod range;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

use range::Range;

/// Why an address was not given.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error("the node has no pod CIDR; set `spec.podCIDRs` of the Node")]
    NoCidr,

    #[error(
        "all {capacity} pod addresses of `{cidrs}` are in use; give the node a larger pod CIDR"
    )]
    Exhausted { cidrs: String, capacity: u128 },

    #[error("`{ip}` already belongs to `{holder}`; delete one of the two pods")]
    Taken { ip: IpAddr, holder: Arc<str> },
}

/// The addresses of this node's pods.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    ranges: Vec<Range>,
    holders: BTreeMap<IpAddr, Arc<str>>,
    held: BTreeMap<Arc<str>, Vec<IpAddr>>,
}

impl Pool {
    /// `cidrs` as in `spec.podCIDRs`: any number of each family, earlier ones are filled first.
    pub fn new(cidrs: impl IntoIterator<Item = IpNet>) -> Self {
        let mut pool = Self::default();
        pool.set_cidrs(cidrs);
        pool
    }

    /// Replaces the CIDRs. Addresses already given stay with their holders, also outside the new
    /// CIDRs: their pods run on.
    pub fn set_cidrs(&mut self, cidrs: impl IntoIterator<Item = IpNet>) {
        let mut ranges: Vec<Range> = Vec::new();
        for cidr in cidrs {
            let known = self.ranges.iter().chain(&ranges).find(|range| range.is(cidr));
            let range = known.cloned().unwrap_or_else(|| Range::new(cidr));
            if !ranges.iter().any(|range| range.is(cidr)) {
                ranges.push(range);
            }
        }
        self.ranges = ranges;
    }

    pub fn cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.ranges.iter().map(Range::cidr)
    }

    /// The first address of each CIDR, which no pod gets: it is the pods' gateway.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.ranges.iter().filter_map(Range::gateway)
    }

    /// One address of every family that has a CIDR, IPv4 first; all or nothing. A holder that asks
    /// again gets what it has.
    ///
    /// # Errors
    /// [`Error::NoCidr`], or [`Error::Exhausted`] naming the CIDRs of the family that ran out.
    pub fn allocate(&mut self, holder: &str) -> Result<Vec<IpAddr>, Error> {
        if let Some(ips) = self.held.get(holder) {
            return Ok(ips.clone());
        }
        let mut ips = Vec::with_capacity(2);
        for v6 in [false, true] {
            let family = || self.ranges.iter().filter(move |range| range.is_v6() == v6);
            if family().next().is_none() {
                continue;
            }
            let free = family().find_map(|range| range.next_free(&self.holders));
            ips.push(free.ok_or_else(|| Error::Exhausted {
                cidrs: family().map(|range| range.cidr().to_string()).collect::<Vec<_>>().join(","),
                capacity: family().map(Range::capacity).sum(),
            })?);
        }
        if ips.is_empty() {
            return Err(Error::NoCidr);
        }
        self.give(holder, &ips);
        Ok(ips)
    }

    /// Takes back what `holder` was given before a restart.
    ///
    /// # Errors
    /// [`Error::Taken`] when one of `ips` is another's; then none of them is taken.
    pub fn restore(
        &mut self,
        holder: &str,
        ips: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), Error> {
        let ips: Vec<IpAddr> = ips.into_iter().collect();
        for ip in &ips {
            if let Some(other) = self.holders.get(ip)
                && **other != *holder
            {
                return Err(Error::Taken { ip: *ip, holder: Arc::clone(other) });
            }
        }
        self.release(holder);
        self.give(holder, &ips);
        Ok(())
    }

    /// Frees all that `holder` has; nothing is fine too.
    pub fn release(&mut self, holder: &str) -> Vec<IpAddr> {
        let ips = self.held.remove(holder).unwrap_or_default();
        for ip in &ips {
            self.holders.remove(ip);
        }
        ips
    }

    /// What `holder` has.
    pub fn held(&self, holder: &str) -> &[IpAddr] {
        self.held.get(holder).map_or(&[], Vec::as_slice)
    }

    pub fn holder(&self, ip: IpAddr) -> Option<&str> {
        self.holders.get(&ip).map(|holder| &**holder)
    }

    pub fn holders(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        self.held.iter().map(|(holder, ips)| (&**holder, ips.as_slice()))
    }

    /// Addresses in use and addresses there are, for one CIDR after the other.
    pub fn usage(&self) -> impl Iterator<Item = (IpNet, u128, u128)> {
        self.ranges.iter().map(|range| (range.cidr(), range.used(&self.holders), range.capacity()))
    }

    fn give(&mut self, holder: &str, ips: &[IpAddr]) {
        let holder: Arc<str> = holder.into();
        for ip in ips {
            self.holders.insert(*ip, Arc::clone(&holder));
            for range in &mut self.ranges {
                range.given(*ip);
            }
        }
        self.held.insert(holder, ips.to_vec());
    }
}

#[cfg(test)]
mod tests;
