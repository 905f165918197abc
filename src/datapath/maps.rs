// SPDX-License-Identifier: Apache-2.0
//! All maps of Culvert, each with its types.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use super::map::{Error, Map, Operations, PerCpu, TableMap};
use super::pins;
use crate::abi::{
    Addr, Affinity, AffinityKey, Backend, BackendKey, Client, Counter, Endpoint, Flow, FlowKey,
    Hook, NodeAddress, NodeKey, Outcome, Owned, Service, ServiceKey, Settings, SourceRange,
    SourceRangeKey, TargetState, Uplink, Vip, XdpDevice, XdpVlanKey,
};

/// The maps that user space reads or writes.
#[derive(Debug)]
pub struct Maps {
    pub services: Map<ServiceKey, Service>,
    pub backends: Map<BackendKey, Backend>,
    pub target_state: Map<u32, TargetState>,
    pub endpoints: Map<Addr, Endpoint>,
    pub owned: Map<Addr, Owned>,
    pub vips: Map<Addr, Vip>,
    pub affinities: Map<AffinityKey, Affinity>,
    pub clients: Map<u64, Client>,
    pub source_ranges: Map<SourceRangeKey, SourceRange>,
    pub maglev: TableMap,
    pub nodes: Map<NodeKey, NodeAddress>,
    pub uplinks: Map<u32, Uplink>,
    pub xdp_devices: Map<u32, XdpDevice>,
    pub xdp_vlans: Map<XdpVlanKey, u32>,
    pub flows: Map<FlowKey, Flow>,
    pub flows_new: Map<FlowKey, Flow>,
    pub handover: Map<u32, u32>,
    pub handover_keys: Map<FlowKey, u32>,
    pub settings: Map<u32, Settings>,
    pub counters: PerCpu<Counter>,
    events: OwnedFd,
    sock_nat: OwnedFd,
}

impl Maps {
    /// Opens the maps that an agent has pinned under `root`, whether it still runs or not.
    pub fn open_pinned(root: &Path) -> Result<Self, Error> {
        Self::from_fds(pins::open_pinned(root)?)
    }

    pub(super) fn from_fds(mut fds: BTreeMap<String, OwnedFd>) -> Result<Self, Error> {
        let mut take = |name: &'static str| {
            fds.remove(name)
                .map(|fd| (name, fd))
                .ok_or_else(|| Error::Missing { map: name.to_owned() })
        };
        macro_rules! typed {
            ($kind:ident, $name:literal) => {{
                let (name, fd) = take($name)?;
                $kind::from_fd(name, fd)?
            }};
        }
        Ok(Self {
            services: typed!(Map, "services"),
            backends: typed!(Map, "backends"),
            target_state: typed!(Map, "target_state"),
            endpoints: typed!(Map, "endpoints"),
            owned: typed!(Map, "owned"),
            vips: typed!(Map, "vips"),
            affinities: typed!(Map, "affinities"),
            clients: typed!(Map, "clients"),
            source_ranges: typed!(Map, "source_ranges"),
            maglev: typed!(TableMap, "maglev"),
            nodes: typed!(Map, "nodes"),
            uplinks: typed!(Map, "uplinks"),
            xdp_devices: typed!(Map, "xdp_devices"),
            xdp_vlans: typed!(Map, "xdp_vlans"),
            flows: typed!(Map, "flows"),
            flows_new: typed!(Map, "flows_new"),
            handover: typed!(Map, "handover"),
            handover_keys: typed!(Map, "handover_keys"),
            settings: typed!(Map, "settings"),
            counters: typed!(PerCpu, "counters"),
            events: take("events")?.1,
            sock_nat: take("sock_nat")?.1,
        })
    }

    /// The ring that the datapath reports to. It has one consumer, see [`super::events`].
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Socket storage; read it with an iterator over it.
    pub fn sock_nat(&self) -> BorrowedFd<'_> {
        self.sock_nat.as_fd()
    }

    /// How often this process wrote each map. Maglev's tables are memory, which no call writes.
    pub fn operations(&self) -> [(&str, &Operations); 16] {
        macro_rules! of {
            ($($map:ident)+) => { [$((self.$map.name(), self.$map.operations())),+] };
        }
        of!(services backends target_state endpoints owned vips affinities clients source_ranges
            nodes uplinks xdp_devices xdp_vlans flows flows_new settings)
    }

    /// Moves the route epoch: the datapath looks cached routes up again.
    pub fn move_route_epoch(&self) -> Result<(), Error> {
        self.change_settings(|settings| settings.route_epoch = settings.route_epoch.wrapping_add(1))
    }

    /// Bit mask of `1 << Hook` whose packets are traced into the ring.
    pub fn set_trace(&self, trace: u32) -> Result<(), Error> {
        self.change_settings(|settings| settings.trace = trace)
    }

    /// Wildcard frontends outside the NodePort range.
    pub fn host_ports(&self) -> Result<u32, Error> {
        Ok(self.settings.get(&0)?.unwrap_or_default().host_ports)
    }

    pub fn set_host_ports(&self, count: u32) -> Result<(), Error> {
        self.change_settings(|settings| settings.host_ports = count)
    }

    /// The keys that dispatched requests are known by, as [`crate::abi::Settings::dsr_keys`].
    pub fn dsr_keys(&self) -> Result<[[u8; 16]; 2], Error> {
        Ok(self.settings.get(&0)?.unwrap_or_default().dsr_keys)
    }

    pub fn set_dsr_keys(&self, keys: [[u8; 16]; 2]) -> Result<(), Error> {
        self.change_settings(|settings| settings.dsr_keys = keys)
    }

    /// Where encapsulated requests come from, IPv4 first.
    pub fn set_dsr_sources(&self, [v4, v6]: [Addr; 2]) -> Result<(), Error> {
        self.change_settings(|settings| {
            settings.dsr_source_v4 = v4;
            settings.dsr_source_v6 = v6;
        })
    }

    /// The device for [`crate::abi::DsrDispatch::Geneve`], 0: none.
    pub fn set_geneve(&self, ifindex: u32) -> Result<(), Error> {
        self.change_settings(|settings| settings.geneve_ifindex = ifindex)
    }

    /// Read-modify-write: only the agent writes `settings`, from one task.
    fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Error> {
        let mut settings = self.settings.get(&0)?.unwrap_or_default();
        change(&mut settings);
        self.settings.set(&0, &settings)
    }

    /// Every counter that has counted, summed over the CPUs.
    pub fn counters(&self) -> Result<Vec<(Outcome, Hook, Counter)>, Error> {
        let mut counted = Vec::new();
        for &outcome in Outcome::ALL {
            for &hook in Hook::ALL {
                let index = outcome.number() * HOOKS + hook.number();
                let sum =
                    self.counters.get(index)?.into_iter().fold(Counter::default(), |sum, each| {
                        Counter {
                            packets: sum.packets + each.packets,
                            bytes: sum.bytes + each.bytes,
                        }
                    });
                if sum != Counter::default() {
                    counted.push((outcome, hook, sum));
                }
            }
        }
        Ok(counted)
    }
}

const HOOKS: u32 = crate::skel::bpf_maps::types::hook::HOOK_MAX.0;
