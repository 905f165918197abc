// SPDX-License-Identifier: Apache-2.0
//! What pods need of the datapath, seen from here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use crate::abi;
use crate::cni::api::Attachment;
use crate::cni::names::PREFIX;

/// The host side of a pod's veth pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodDevice {
    pub name: String,
}

impl PodDevice {
    pub fn of(attachment: &Attachment) -> Self {
        Self { name: attachment.host_ifname() }
    }

    /// Of the attachment with this id.
    pub fn of_id(id: &str) -> Self {
        Self { name: format!("{PREFIX}{id}") }
    }
}

/// The kernel as pods see it. The control loop passes the datapath.
pub trait Kernel {
    /// Index of the device, if it is there.
    fn ifindex(&self, device: &PodDevice) -> Option<u32>;

    /// Attaches the pod programs to the device and enters its addresses, in an order in which no
    /// packet finds an entry whose device has no program. Doing it again is fine.
    fn install(
        &mut self,
        device: &PodDevice,
        addresses: &[IpAddr],
        entry: abi::Endpoint,
    ) -> anyhow::Result<()>;

    /// Takes entries and programs away. The device may be gone, and so may all of it.
    fn remove(&mut self, device: &PodDevice, addresses: &[IpAddr]) -> anyhow::Result<()>;

    /// Removes every entry whose address is not in `known`.
    fn keep_only(&mut self, known: &BTreeSet<IpAddr>) -> anyhow::Result<()>;

    /// The addresses that are entered for a device, with their entry.
    fn entries_of(&self, ifindex: u32) -> anyhow::Result<Vec<(IpAddr, abi::Endpoint)>>;

    fn entry(&self, ip: IpAddr) -> anyhow::Result<Option<abi::Endpoint>>;

    /// Cookie of the namespace at `path`; 0 when it cannot be had (before Linux 5.14, or when the
    /// path is not visible to the agent). Then only shared affinity and the like are off.
    fn netns_cookie(&self, path: &Path) -> u64;

    /// [`abi::Endpoint::netns_number`] of the device's other end; 0 when it cannot be had. Then
    /// connections through services do not keep clear of the pod's direct ones.
    fn netns_number(&self, ifindex: u32) -> u32;
}
