// SPDX-License-Identifier: Apache-2.0
//! What direct server return needs in the kernel: keys and addresses in `settings`, the nodes, the
//! Geneve device.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::{Dsr, Key};
use crate::abi::{Addr, NodeAddress, NodeKey};
use crate::agent::nodes::Nodes;
use crate::agent::uplinks::reconcile;
use crate::config::DsrDispatch;
use crate::datapath::netlink::{GENEVE_DEVICE, Geneve, View};
use crate::datapath::{Datapath, sysctl};

/// What was written, so that nothing is written twice.
#[derive(Debug)]
pub struct InKernel {
    geneve: Geneve,
    keys: Option<[Key; 2]>,
    sources: Option<[Addr; 2]>,
    nodes: Option<BTreeMap<NodeKey, NodeAddress>>,
    /// Index of the Geneve device that the programs are on; 0: there shall be none.
    device: Option<u32>,
}

impl InKernel {
    /// Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// There is no netlink.
    pub fn open() -> Result<Self> {
        let geneve = Geneve::open()?;
        Ok(Self { geneve, keys: None, sources: None, nodes: None, device: None })
    }

    /// Entries of `nodes`; None: as an earlier agent left it.
    pub fn nodes_written(&self) -> Option<u64> {
        self.nodes.as_ref().map(|table| table.len() as u64)
    }

    /// Brings the kernel to what `dsr` and `nodes` say. `this` is this node's name.
    ///
    /// # Errors
    /// A map or a device cannot be written; the rest is done.
    pub async fn apply(
        &mut self,
        dsr: &Dsr,
        nodes: &Nodes,
        this: &str,
        view: &View,
        datapath: &Datapath,
    ) -> Result<()> {
        let written = self.write(dsr, nodes, this, view, datapath);
        let device = self.device(dsr, view, datapath).await;
        written.and(device)
    }

    fn write(
        &mut self,
        dsr: &Dsr,
        nodes: &Nodes,
        this: &str,
        view: &View,
        datapath: &Datapath,
    ) -> Result<()> {
        let maps = datapath.maps();
        // What is not known yet is as an earlier agent left it.
        if let Some(table) = nodes.table().filter(|table| self.nodes.as_ref() != Some(table)) {
            reconcile(&maps.nodes, &table).context("cannot write the nodes")?;
            self.nodes = Some(table);
        }
        let sources = sources(&nodes.addresses(this), view);
        if nodes.listed() && self.sources != Some(sources) {
            maps.set_dsr_sources(sources)?;
            self.sources = Some(sources);
        }
        if self.keys != Some(dsr.keys()) {
            maps.set_dsr_keys(dsr.keys())?;
            self.keys = Some(dsr.keys());
        }
        Ok(())
    }

    async fn device(&mut self, dsr: &Dsr, view: &View, datapath: &Datapath) -> Result<()> {
        if dsr.dispatch != DsrDispatch::Geneve || !dsr.able {
            if self.device.is_none() {
                datapath.maps().set_geneve(0)?;
                // Of an agent that was configured otherwise.
                if self.geneve.remove().await? {
                    datapath.detach(0, GENEVE_DEVICE)?;
                }
                self.device = Some(0);
            }
            return Ok(());
        }
        let Some(index) = index(view) else {
            // The view tells of it when it is there.
            return Ok(self.geneve.make().await?);
        };
        if self.device != Some(index) {
            sysctl::relax_rp_filter(GENEVE_DEVICE)?;
            datapath.attach_overlay(index, GENEVE_DEVICE)?;
            datapath.maps().set_geneve(index)?;
            self.device = Some(index);
        }
        Ok(())
    }
}

fn index(view: &View) -> Option<u32> {
    let mut links = view.links.iter();
    links.find(|(_, link)| link.name == GENEVE_DEVICE && link.up).map(|(index, _)| *index)
}

/// The node's first address of each family, IPv4 first, that the other nodes know it by and that it
/// has; zero where there is none.
fn sources(known: &[IpAddr], view: &View) -> [Addr; 2] {
    [false, true].map(|v6| {
        let has = |ip: &&IpAddr| view.owned.contains_key(&Addr::from(**ip));
        let mut own = known.iter().filter(|ip| ip.is_ipv6() == v6).filter(has);
        own.next().map_or(Addr::ZERO, |ip| Addr::from(*ip))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Owned;

    #[test]
    fn what_encapsulates_names_an_address_that_the_others_know_and_the_node_has() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let owned = ["10.0.0.1", "10.0.0.9", "fd00::1"];
        let owned = owned.map(|text| (ip(text).into(), Owned { ifindex: 1, flags: 0 }));
        let view = View { owned: owned.into(), ..View::default() };
        // Behind a NAT of the cloud, the external address is known and nobody's here.
        let known = ["192.0.2.1", "10.0.0.1", "10.0.0.9"].map(ip);
        assert_eq!(sources(&known, &view), [ip("10.0.0.1").into(), Addr::ZERO]);
        let [_, v6] = sources(&[ip("fd00::1")], &view);
        assert_eq!(v6, ip("fd00::1").into());
    }
}
