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
use crate::datapath::{Datapath, host};

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
        Ok(())
    }

    fn remove(&mut self, device: &PodDevice, addresses: &[IpAddr]) -> anyhow::Result<()> {
        for ip in addresses {
            self.maps().endpoints.remove(&Addr::from(*ip))?;
        }
        // Filters go with the device; only pins of links outlive it.
        self.detach(self.ifindex(device).unwrap_or(0), &device.name)?;
        Ok(())
    }

    fn keep_only(&mut self, known: &BTreeSet<IpAddr>) -> anyhow::Result<()> {
        let endpoints = &self.maps().endpoints;
        let entries = endpoints.entries().context("cannot list map `endpoints`")?;
        for (addr, _) in entries {
            if !known.contains(&addr.ip()) {
                endpoints.remove(&addr)?;
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
}
