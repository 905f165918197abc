// SPDX-License-Identifier: Apache-2.0
//! The datapath as the pods see it.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};

use super::endpoints::{Kernel, PodDevice};
use crate::abi;
use crate::datapath::{Datapath, host};

/// Pods' entries and programs, in the kernel.
#[derive(Debug)]
pub struct Pods<'a>(pub &'a Datapath);

impl Kernel for Pods<'_> {
    fn ifindex(&self, device: &PodDevice) -> Option<u32> {
        if_nametoindex(device.name.as_str()).ok()
    }

    fn install(
        &mut self,
        device: &PodDevice,
        addresses: &[IpAddr],
        entry: abi::Endpoint,
    ) -> Result<()> {
        self.0.attach_pod(entry.ifindex, &device.name)?;
        for ip in addresses {
            self.0.maps().endpoints.set(&(*ip).into(), &entry)?;
        }
        Ok(())
    }

    fn remove(&mut self, device: &PodDevice, addresses: &[IpAddr]) -> Result<()> {
        for ip in addresses {
            self.0.maps().endpoints.remove(&(*ip).into())?;
        }
        // Without the device only its pins are left to take away.
        self.0.detach(self.ifindex(device).unwrap_or(0), &device.name)?;
        Ok(())
    }

    fn keep_only(&mut self, known: &BTreeSet<IpAddr>) -> Result<()> {
        let entries = &self.0.maps().endpoints;
        for (addr, _) in entries.entries()? {
            if !known.contains(&addr.ip()) {
                entries.remove(&addr)?;
            }
        }
        Ok(())
    }

    fn entry(&self, ip: IpAddr) -> Result<Option<abi::Endpoint>> {
        Ok(self.0.maps().endpoints.get(&ip.into())?)
    }

    fn netns_cookie(&self, path: &Path) -> u64 {
        cookie(path).unwrap_or_else(|error| {
            tracing::debug!(path = %path.display(), error = %format!("{error:#}"), "no netns cookie");
            0
        })
    }
}

/// A namespace can be entered by a thread of its own only: the runtime's threads stay where they
/// are.
fn cookie(path: &Path) -> Result<u64> {
    let netns = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    let inside = thread::spawn(move || -> Result<u64> {
        setns(netns, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
        Ok(host::netns_cookie()?)
    });
    match inside.join() {
        Ok(cookie) => cookie,
        Err(_) => bail!("the thread that read the cookie panicked"),
    }
}
