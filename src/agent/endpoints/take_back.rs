// SPDX-License-Identifier: Apache-2.0
//! Pods of a former agent, from what it wrote down and what is pinned.

use std::net::IpAddr;

use super::store::{Damaged, Endpoint};
use super::{Endpoints, Kernel, PodDevice, install};
use crate::agent::chain;
use crate::cni::api::{Error, code};

impl Endpoints {
    pub(super) fn take_back(
        &mut self,
        mut endpoint: Endpoint,
        kernel: &mut impl Kernel,
    ) -> Result<(), Error> {
        let id = endpoint.attachment.id();
        let device = PodDevice::of(&endpoint.attachment);
        let Some(ifindex) = kernel.ifindex(&device) else {
            return self.store.remove(&id).map_err(|cause| {
                Error::new(code::IO, format!("cannot forget pod device `{}`", device.name))
                    .because(chain(&cause))
            });
        };
        endpoint.ifindex = ifindex;
        endpoint.netns_number = kernel.netns_number(ifindex);
        let addresses = endpoint.addresses.clone();
        self.pool.restore(&id, addresses).map_err(|cause| {
            Error::new(code::AGENT, format!("cannot take back pod device `{}`", device.name))
                .because(cause)
        })?;
        let installed = install(&endpoint, kernel);
        self.live.insert(id, endpoint);
        installed
    }

    /// The file is lost, but its name tells the device, and what is pinned tells the addresses: the
    /// pod runs on with them until it is deleted. Nothing to report once its device is gone.
    pub(super) fn keep(&mut self, file: &Damaged, kernel: &mut impl Kernel) -> Option<Error> {
        let device = PodDevice::of_id(&file.id);
        let reason = |text: String| {
            let msg = format!("`{}` is damaged", file.path.display());
            Some(Error::new(code::IO, msg).because(format!("{}; {text}", file.source)))
        };
        let Some(ifindex) = kernel.ifindex(&device) else {
            return match self.store.remove(&file.id) {
                Ok(()) => None,
                Err(cause) => reason(chain(&cause)),
            };
        };
        self.damaged.insert(file.id.clone());
        let kept = kernel.entries_of(ifindex).and_then(|entries| {
            let addresses: Vec<IpAddr> = entries.iter().map(|(ip, _)| *ip).collect();
            anyhow::ensure!(!addresses.is_empty(), "no address of its pod is known");
            self.pool.restore(&file.id, addresses.iter().copied())?;
            entries.into_iter().try_for_each(|(ip, entry)| kernel.install(&device, &[ip], entry))
        });
        match kept {
            Ok(()) => reason("its pod keeps its addresses until it is deleted".to_owned()),
            Err(cause) => reason(format!("{cause:#}; delete its pod")),
        }
    }
}
