// SPDX-License-Identifier: Apache-2.0
//! The pods of this node: their addresses, what the kernel knows of them, and the files that let
//! both survive a restart of the agent.
//!
//! The CNI plugin makes and removes devices; this side hands out addresses, writes `endpoints` and
//! attaches programs. It belongs to the control loop, which is its only caller.

mod conflist;
mod datapath;
mod kernel;
mod store;
mod take_back;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub use conflist::{Conflist, FILE_NAME};
pub use kernel::{Kernel, PodDevice};
pub use store::{Endpoint, Error as StoreError};

use super::chain;
use crate::cni::api::{
    Add, Allocation, Attachment, Call, Check, Error, Gc, PodAddress, Reply, Stale, code,
};
use crate::cni::deletion;
use crate::ipam::Pool;
use store::Store;

/// What pods get besides their addresses.
#[derive(Clone, Debug)]
pub struct Settings {
    pub state_dir: PathBuf,
    /// Source addresses of hairpinned packets, which a pod must be able to answer.
    pub hairpin: Vec<IpAddr>,
}

/// Every attachment of this node.
#[derive(Debug)]
pub struct Endpoints {
    settings: Settings,
    store: Store,
    pool: Pool,
    /// Of pod devices, in bytes.
    mtu: u32,
    live: BTreeMap<String, Endpoint>,
    /// Addresses reserved by the first half of an ADD.
    reserved: BTreeMap<String, Attachment>,
    /// Ids of pods that run on although their file is damaged.
    damaged: BTreeSet<String>,
    not_ready: Option<String>,
}

impl Endpoints {
    /// Takes back what a former agent wrote down: pods whose device is still there are attached
    /// and entered again, the others are forgotten, and so is every other entry of `endpoints`.
    ///
    /// # Errors
    /// The state directory cannot be used. A pod that the kernel refuses, or whose file is
    /// damaged, is reported in the list and kept, so that its address is not given away.
    pub fn restore(
        settings: Settings,
        kernel: &mut impl Kernel,
    ) -> Result<(Self, Vec<Error>), StoreError> {
        let store = Store::open(&settings.state_dir)?;
        let found = store.load()?;
        let mut this = Self {
            settings,
            store,
            pool: Pool::default(),
            mtu: 1500,
            live: BTreeMap::new(),
            reserved: BTreeMap::new(),
            damaged: BTreeSet::new(),
            not_ready: Some("the agent is starting".to_owned()),
        };
        let mut problems = Vec::new();
        for endpoint in found.endpoints {
            if let Err(problem) = this.take_back(endpoint, kernel) {
                problems.push(problem);
            }
        }
        problems.extend(found.damaged.iter().filter_map(|file| this.keep(file, kernel)));
        let known: BTreeSet<IpAddr> =
            this.pool.holders().flat_map(|(_, addresses)| addresses.iter().copied()).collect();
        if let Err(cause) = kernel.keep_only(&known) {
            let msg = "cannot remove the entries of pods that are gone";
            problems.push(Error::new(code::AGENT, msg).because(format!("{cause:#}")));
        }
        problems.extend(this.replay_deletions(kernel).err());
        Ok((this, problems))
    }

    /// `spec.podCIDRs` of this node.
    pub fn set_pod_cidrs(&mut self, cidrs: &[IpNet]) {
        self.pool.set_cidrs(cidrs.iter().copied());
    }

    /// Of pods from now on, in bytes. Running pods keep theirs.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.mtu = mtu;
    }

    /// `None` when pods can be added; else why not, for STATUS.
    pub fn set_not_ready(&mut self, reason: Option<String>) {
        self.not_ready = reason;
    }

    /// All pods with a finished ADD, ordered by id.
    pub fn list(&self) -> impl Iterator<Item = &Endpoint> {
        self.live.values()
    }

    /// Host side devices of all pods, those of damaged files too.
    pub fn devices(&self) -> impl Iterator<Item = String> {
        let ids = self.live.keys().chain(&self.damaged);
        ids.map(|id| PodDevice::of_id(id).name)
    }

    /// The pod at `ip`.
    pub fn at(&self, ip: IpAddr) -> Option<&Endpoint> {
        self.live.values().find(|endpoint| endpoint.addresses.contains(&ip))
    }

    /// Addresses of all pods with entries in the datapath, those of damaged files too.
    pub fn held(&self) -> impl Iterator<Item = IpAddr> {
        let holders = self.pool.holders().filter(|(id, _)| !self.reserved.contains_key(*id));
        holders.flat_map(|(_, addresses)| addresses.iter().copied())
    }

    /// Addresses in use and addresses there are, for one CIDR after the other.
    pub fn usage(&self) -> impl Iterator<Item = (IpNet, u128, u128)> {
        self.pool.usage()
    }

    /// Does what the plugin asks.
    ///
    /// # Errors
    /// What the plugin hands on to the runtime.
    pub fn handle(&mut self, call: Call, kernel: &mut impl Kernel) -> Result<Reply, Error> {
        self.replay_deletions(kernel)?;
        match call {
            Call::Allocate(attachment) => self.allocate(attachment),
            Call::Add(add) => self.add(add, kernel),
            Call::Del(attachment) => self.delete(&attachment, kernel),
            Call::Check(check) => self.check(&check, kernel),
            Call::Gc(gc) => Ok(Reply::Stale(self.stale(&gc))),
            Call::Status => self.status(),
        }
    }

    fn allocate(&mut self, attachment: Attachment) -> Result<Reply, Error> {
        let id = attachment.id();
        if self.live.contains_key(&id) {
            let msg = format!("container `{}` is connected already", attachment.container_id);
            return Err(Error::new(code::AGENT, msg));
        }
        let addresses = self.pool.allocate(&id).map_err(|cause| {
            Error::new(code::TRY_AGAIN, "cannot give the pod an address").because(cause)
        })?;
        let addresses: Option<Vec<PodAddress>> = addresses
            .into_iter()
            .map(|ip| Some(PodAddress { ip, gateway: self.gateway(ip)? }))
            .collect();
        let Some(addresses) = addresses else {
            self.pool.release(&id);
            return Err(Error::new(code::TRY_AGAIN, "the node's pod CIDRs are changing"));
        };
        self.reserved.insert(id, attachment);
        Ok(Reply::Allocation(Allocation {
            addresses,
            mtu: self.mtu,
            hairpin: self.settings.hairpin.clone(),
        }))
    }

    /// The gateway of the CIDR that `ip` is from.
    fn gateway(&self, ip: IpAddr) -> Option<IpAddr> {
        let cidr = self.pool.cidrs().find(|cidr| cidr.contains(&ip))?;
        self.pool.gateways().find(|gateway| cidr.contains(gateway))
    }

    fn add(&mut self, add: Add, kernel: &mut impl Kernel) -> Result<Reply, Error> {
        let id = add.attachment.id();
        if self.reserved.get(&id) != Some(&add.attachment) || self.pool.held(&id) != add.addresses {
            let msg = "the agent has not given these addresses; it was restarted meanwhile";
            return Err(Error::new(code::TRY_AGAIN, msg));
        }
        let netns_cookie = kernel.netns_cookie(&add.netns);
        let netns_number = kernel.netns_number(add.ifindex);
        let endpoint = Endpoint { add, netns_cookie, netns_number };
        let installed = self.store.write(&endpoint).map_err(|cause| {
            Error::new(code::IO, "cannot write the pod down").because(chain(&cause))
        });
        // The reservation stays on failure: the plugin's DEL releases it.
        installed.and_then(|()| install(&endpoint, kernel))?;
        self.reserved.remove(&id);
        self.live.insert(id, endpoint);
        Ok(Reply::Done {})
    }

    fn delete(
        &mut self,
        attachment: &Attachment,
        kernel: &mut impl Kernel,
    ) -> Result<Reply, Error> {
        let id = attachment.id();
        let addresses: Vec<IpAddr> = self.pool.held(&id).to_vec();
        // Entries first: an address is free only when no packet finds the old pod under it.
        let removed = kernel.remove(&PodDevice::of(attachment), &addresses);
        removed.map_err(|cause| {
            let msg = format!("cannot remove container `{}`", attachment.container_id);
            Error::new(code::AGENT, msg).because(format!("{cause:#}"))
        })?;
        self.store.remove(&id).map_err(|cause| {
            Error::new(code::IO, "cannot forget the pod").because(chain(&cause))
        })?;
        self.live.remove(&id);
        self.reserved.remove(&id);
        self.damaged.remove(&id);
        self.pool.release(&id);
        Ok(Reply::Done {})
    }

    fn check(&self, check: &Check, kernel: &mut impl Kernel) -> Result<Reply, Error> {
        let id = check.attachment.id();
        let Some(endpoint) = self.live.get(&id).filter(|e| e.attachment == check.attachment) else {
            let msg = format!("container `{}` is not connected", check.attachment.container_id);
            return Err(Error::new(code::UNKNOWN_CONTAINER, msg));
        };
        let given: BTreeSet<IpAddr> = endpoint.addresses.iter().copied().collect();
        let asked: BTreeSet<IpAddr> = check.addresses.iter().copied().collect();
        if given != asked {
            let msg = format!("the agent gave {given:?}, not {asked:?}");
            return Err(Error::new(code::CHECK_FAILED, msg));
        }
        for ip in &endpoint.addresses {
            let entry = kernel.entry(*ip).map_err(|cause| {
                Error::new(code::AGENT, "cannot read `endpoints`").because(format!("{cause:#}"))
            })?;
            if entry != Some(endpoint.entry()) {
                let msg = format!("the datapath does not know the pod at `{ip}`");
                return Err(Error::new(code::CHECK_FAILED, msg));
            }
        }
        Ok(Reply::Done {})
    }

    fn stale(&self, gc: &Gc) -> Stale {
        let valid: BTreeSet<&Attachment> = gc.valid.iter().collect();
        let known = self.live.values().map(|endpoint| &endpoint.attachment);
        let all = known.chain(self.reserved.values());
        Stale { stale: all.filter(|each| !valid.contains(each)).cloned().collect() }
    }

    fn status(&self) -> Result<Reply, Error> {
        match &self.not_ready {
            None => Ok(Reply::Done {}),
            Some(reason) => {
                Err(Error::new(code::NOT_AVAILABLE, "pods cannot be added").because(reason))
            }
        }
    }

    /// What the plugin deleted while no agent answered.
    fn replay_deletions(&mut self, kernel: &mut impl Kernel) -> Result<(), Error> {
        let state_dir = self.settings.state_dir.clone();
        let unreadable = |cause: std::io::Error| {
            Error::new(code::IO, "cannot read the deletions").because(cause)
        };
        for attachment in deletion::pending(&state_dir).map_err(unreadable)? {
            self.delete(&attachment, kernel)?;
            deletion::forget(&state_dir, &attachment).map_err(unreadable)?;
        }
        Ok(())
    }
}

fn install(endpoint: &Endpoint, kernel: &mut impl Kernel) -> Result<(), Error> {
    let device = PodDevice::of(&endpoint.attachment);
    let entry = endpoint.entry();
    kernel.install(&device, &endpoint.addresses, entry).map_err(|cause| {
        Error::new(code::AGENT, format!("cannot attach to pod device `{}`", device.name))
            .because(format!("{cause:#}"))
    })
}

#[cfg(test)]
mod tests;
