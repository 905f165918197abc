// SPDX-License-Identifier: Apache-2.0
//! The node's own network into the datapath: owned addresses, external devices with their programs
//! and SNAT addresses, the route epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::chain;
use super::sync::ServiceSync;
use crate::abi::{Addr, TargetStatus, Uplink};
use crate::datapath::map::{Map, Plain};
use crate::datapath::netlink::{self, View};
use crate::datapath::{Datapath, Maps};
use crate::lb::Target;

/// One device as it is attached, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub ifindex: u32,
    pub problem: Option<String>,
}

/// What was done for the external devices.
#[derive(Debug, Default)]
pub struct Uplinks {
    /// By name: an index may come back as another device.
    attached: BTreeMap<String, Attached>,
    /// The target of each SNAT address. Its end ends the flows that use it.
    targets: BTreeMap<(u32, Addr), Target>,
    epoch: u64,
}

impl Uplinks {
    /// Takes over the SNAT addresses that an earlier agent wrote, where their target is alive.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn adopt(maps: &Maps) -> Result<Self> {
        let mut targets = BTreeMap::new();
        for (ifindex, uplink) in maps.uplinks.entries()? {
            for (addr, index, epoch) in [
                (uplink.snat_v4, uplink.snat_v4_target, uplink.snat_v4_epoch),
                (uplink.snat_v6, uplink.snat_v6_target, uplink.snat_v6_epoch),
            ] {
                let state = maps.target_state.get(&index)?.unwrap_or_default();
                let alive = state.epoch == epoch && state.status == TargetStatus::Active as u8;
                if addr != Addr::ZERO && alive {
                    targets.insert((ifindex, addr), Target { index, epoch });
                }
            }
        }
        Ok(Self { targets, ..Self::default() })
    }

    /// The targets in use, for [`ServiceSync::adopt`].
    pub fn targets(&self) -> Vec<Target> {
        self.targets.values().copied().collect()
    }

    pub fn attached(&self) -> &BTreeMap<String, Attached> {
        &self.attached
    }

    /// Brings the datapath to `view`. What fails is tried again by the caller; what can be done is
    /// done all the same.
    ///
    /// # Errors
    /// The first failure, with all devices that could not be attached to.
    pub fn apply(
        &mut self,
        view: &View,
        datapath: &Datapath,
        sync: &mut ServiceSync,
    ) -> Result<()> {
        let maps = datapath.maps();
        let owned =
            reconcile(&maps.owned, &view.owned).context("cannot write the node's addresses");
        // A device gets its addresses first: a packet that meets a program finds all it needs.
        let written = self.write(view, maps, sync);
        let attached = self.attach(view, datapath);
        if self.epoch != view.route_epoch {
            maps.move_route_epoch()?;
            self.epoch = view.route_epoch;
        }
        owned.and(written).and(attached)
    }

    fn write(&mut self, view: &View, maps: &Maps, sync: &mut ServiceSync) -> Result<()> {
        let mut wanted = BTreeMap::new();
        let mut used = BTreeSet::new();
        for (ifindex, uplink) in &view.uplinks {
            let mut snat = |ip: Option<IpAddr>| -> Result<(Addr, Target)> {
                let Some(ip) = ip else {
                    return Ok((Addr::ZERO, Target { index: 0, epoch: 0 }));
                };
                let addr = Addr::from(ip);
                used.insert((*ifindex, addr));
                if let Some(target) = self.targets.get(&(*ifindex, addr)) {
                    return Ok((addr, *target));
                }
                let target = sync.reserve_target()?;
                self.targets.insert((*ifindex, addr), target);
                Ok((addr, target))
            };
            let (snat_v4, v4) = snat(uplink.snat_v4.map(IpAddr::V4))?;
            let (snat_v6, v6) = snat(uplink.snat_v6.map(IpAddr::V6))?;
            let value = Uplink {
                snat_v4,
                snat_v6,
                snat_v4_target: v4.index,
                snat_v6_target: v6.index,
                snat_v4_epoch: v4.epoch,
                snat_v6_epoch: v6.epoch,
                mtu: uplink.mtu,
            };
            wanted.insert(*ifindex, value);
        }
        reconcile(&maps.uplinks, &wanted).context("cannot write the external devices")?;
        let unused: Vec<(u32, Addr)> =
            self.targets.keys().filter(|key| !used.contains(*key)).copied().collect();
        for key in unused {
            if let Some(target) = self.targets.remove(&key) {
                sync.release_target(target)?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, view: &View, datapath: &Datapath) -> Result<()> {
        let names: BTreeSet<&str> = view.uplinks.values().map(|u| u.name.as_str()).collect();
        let gone: Vec<String> =
            self.attached.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        for name in gone {
            let index = view.links.iter().find(|(_, link)| link.name == name).map(|(i, _)| *i);
            datapath.detach(index.unwrap_or(0), &name)?;
            self.attached.remove(&name);
            tracing::info!(device = name, "no longer an external device");
        }
        let mut failed = Vec::new();
        for (ifindex, uplink) in &view.uplinks {
            let attached = Attached { ifindex: *ifindex, problem: None };
            if self.attached.get(&uplink.name) == Some(&attached) {
                continue;
            }
            let problem = attach(datapath, *ifindex, uplink).err();
            match &problem {
                None => tracing::info!(device = uplink.name, "attached"),
                Some(problem) => failed.push(problem.clone()),
            }
            self.attached.insert(uplink.name.clone(), Attached { problem, ..attached });
        }
        anyhow::ensure!(failed.is_empty(), "{}", failed.join("; "));
        Ok(())
    }
}

fn attach(datapath: &Datapath, ifindex: u32, uplink: &netlink::Uplink) -> Result<(), String> {
    datapath.attach_uplink(ifindex, &uplink.name).map_err(|error| chain(&error))
}

/// Makes `map` hold exactly `wanted`. Removals come first: a full map must shrink before it grows.
pub(super) fn reconcile<K: Plain + Ord, V: Plain + PartialEq>(
    map: &Map<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<()> {
    let actual: BTreeMap<K, V> = map.entries()?.into_iter().collect();
    for key in actual.keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(key)?;
    }
    for (key, value) in wanted.iter().filter(|(key, value)| actual.get(key) != Some(value)) {
        map.set(key, value)?;
    }
    Ok(())
}
