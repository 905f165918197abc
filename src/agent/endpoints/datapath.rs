// SPDX-License-Identifier: Apache-2.0
//! The real kernel behind [`Kernel`].

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use nix::net::if_::if_nametoindex;

use super::{Kernel, PodDevice};
use crate::abi::{self, Addr};
use crate::cni::netns;
use crate::datapath::{Datapath, host, netlink};

impl Datapath {
    /// Socket hooks know a pod by its namespace's cookie, and are to know its addresses.
    fn add_client(&self, cookie: u64, addresses: &[IpAddr]) -> anyhow::Result<()> {
        if cookie == 0 {
            return Ok(());
        }
        let clients = &self.maps().clients;
        let nobody = abi::Client { v4: Addr::ZERO, v6: Addr::ZERO };
        let mut client = clients.get(&cookie)?.unwrap_or(nobody);
        for ip in addresses {
            let family = if ip.is_ipv6() { &mut client.v6 } else { &mut client.v4 };
            *family = (*ip).into();
        }
        Ok(clients.set(&cookie, &client)?)
    }
}

impl Kernel for Datapath {
    fn ifindex(&self, device: &PodDevice) -> Option<u32> {
        if_nametoindex(device.name.as_str()).ok()
    }

    fn install(
        &mut self,
        device: &PodDevice,
        addresses: &[IpAddr],
        entry: abi::Endpoint,
    ) -> anyhow::Result<()> {
        self.attach_pod(entry.ifindex, &device.name)?;
        for ip in addresses {
            self.maps().endpoints.set(&Addr::from(*ip), &entry)?;
        }
        self.add_client(entry.netns_cookie, addresses)
    }

    fn remove(&mut self, device: &PodDevice, addresses: &[IpAddr]) -> anyhow::Result<()> {
        for addr in addresses.iter().map(|ip| Addr::from(*ip)) {
            if let Some(entry) = self.maps().endpoints.get(&addr)? {
                self.maps().clients.remove(&entry.netns_cookie)?;
            }
            self.maps().endpoints.remove(&addr)?;
        }
        // Filters go with the device; only pins of links outlive it.
        self.detach(self.ifindex(device).unwrap_or(0), &device.name)?;
        Ok(())
    }

    fn keep_only(&mut self, known: &BTreeSet<IpAddr>) -> anyhow::Result<()> {
        let endpoints = &self.maps().endpoints;
        let entries = endpoints.entries().context("cannot list map `endpoints`")?;
        let (kept, gone): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(addr, _)| known.contains(&addr.ip()));
        for (addr, _) in gone {
            endpoints.remove(&addr)?;
        }
        let clients = &self.maps().clients;
        for (cookie, _) in clients.entries().context("cannot list map `clients`")? {
            if kept.iter().all(|(_, entry)| entry.netns_cookie != cookie) {
                clients.remove(&cookie)?;
            }
        }
        Ok(())
    }

    fn entries_of(&self, ifindex: u32) -> anyhow::Result<Vec<(IpAddr, abi::Endpoint)>> {
        let entries = self.maps().endpoints.entries().context("cannot list map `endpoints`")?;
        let of_device = entries.into_iter().filter(|(_, entry)| entry.ifindex == ifindex);
        Ok(of_device.map(|(addr, entry)| (addr.ip(), entry)).collect())
    }

    fn entry(&self, ip: IpAddr) -> anyhow::Result<Option<abi::Endpoint>> {
        Ok(self.maps().endpoints.get(&Addr::from(ip))?)
    }

    fn netns_cookie(&self, path: &Path) -> u64 {
        let cookie = File::open(path).and_then(|pod| netns::inside(&pod, host::netns_cookie));
        cookie.unwrap_or_else(|cause| {
            tracing::debug!(path = %path.display(), %cause, "no cookie of the pod's namespace");
            0
        })
    }

    fn netns_number(&self, ifindex: u32) -> u32 {
        netlink::peer_netns_number(ifindex).unwrap_or_else(|cause| {
            tracing::debug!(ifindex, %cause, "no number of the pod's namespace");
            0
        })
    }
}
