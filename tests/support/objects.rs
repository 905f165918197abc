// SPDX-License-Identifier: Apache-2.0
//! The loaded datapath for one test, and its tables written as the agent would write them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use culvert::abi::{
    self, Addr, Backend, BackendKey, Counter, GoneTarget, Hook, Outcome, Owned,
    SERVICE_HAS_ENDPOINTS, Service, ServiceKey, ServiceKind, SlotRange, TargetState, TargetStatus,
    VIP_CLUSTER_IP, VIP_EXTERNAL, Vip,
};
use culvert::datapath::{Datapath, Maps, Options};
use libbpf_rs::ProgramMut;

use super::pins::{PinRoot, all_programs_but};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// One frontend as a test writes it down.
#[derive(Clone, Copy, Debug)]
pub struct Frontend {
    pub vip: Addr,
    pub port: u16,
    pub proto: u8,
    pub kind: ServiceKind,
}

impl Frontend {
    /// `address` is `IP:PORT`.
    pub fn cluster_ip(address: &str, proto: u8) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let vip = address.ip().into();
        Self { vip, port: address.port(), proto, kind: ServiceKind::ClusterIp }
    }

    pub fn node_port_v4(port: u16, proto: u8) -> Self {
        Self { vip: Addr::V4_WILDCARD, port, proto, kind: ServiceKind::NodePort }
    }

    pub fn node_port_v6(port: u16, proto: u8) -> Self {
        Self { vip: Addr::V6_WILDCARD, port, proto, kind: ServiceKind::NodePort }
    }

    pub fn kind(self, kind: ServiceKind) -> Self {
        Self { kind, ..self }
    }

    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(self.vip, self.port, self.proto)
    }
}

/// Programs that one-packet tests call; each has its own load, so that a test pays the verifier for
/// what it runs.
const LAZY: [&str; 6] =
    ["from_container", "to_container", "from_netdev", "to_netdev", "from_overlay", "xdp_entry"];

/// All maps and programs. Dropping it removes the pins.
#[derive(Debug)]
pub struct Objects {
    datapath: Datapath,
    options: Options,
    lazy: [OnceLock<Datapath>; LAZY.len()],
    _root: PinRoot,
    next: AtomicU32,
}

impl Objects {
    /// Loads everything with the configuration of a default agent, changed by `change`.
    pub fn load(change: impl FnOnce(&mut abi::Config)) -> Self {
        Self::load_without(&[], change)
    }

    /// As [`Self::load`], but without these programs: the verifier takes its time for each.
    pub fn load_without(programs: &[&str], change: impl FnOnce(&mut abi::Config)) -> Self {
        Self::open(|options| {
            options.programs_off.extend(programs.iter().map(|&name| name.to_owned()));
            change(&mut options.config);
        })
    }

    /// Loads the maps; [`Self::program`] loads what it is asked for, in the namespace of its caller.
    pub fn load_lazily(change: impl FnOnce(&mut Options)) -> Self {
        Self::open(|options| {
            change(options);
            options.programs_off.extend(all_programs_but(&[]));
        })
    }

    /// Loads with the options of [`PinRoot`], changed by `change`.
    pub fn open(change: impl FnOnce(&mut Options)) -> Self {
        let root = PinRoot::new();
        let mut options = root.options();
        change(&mut options);
        let datapath = Datapath::open(options.clone()).unwrap();
        let lazy = LAZY.map(|_| OnceLock::new());
        Self { datapath, options, lazy, _root: root, next: AtomicU32::new(1) }
    }

    /// What the next agent opens in place of this one, whose programs stay as they are.
    pub fn successor(&self, change: impl FnOnce(&mut Options)) -> Datapath {
        let mut options = self.options.clone();
        change(&mut options);
        Datapath::open(options).unwrap()
    }

    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    pub fn maps(&self) -> &Arc<Maps> {
        self.datapath.maps()
    }

    /// What has become this on that hook so far.
    pub fn counted(&self, outcome: Outcome, hook: Hook) -> Counter {
        let counters = self.maps().counters().unwrap();
        let found = counters.into_iter().find(|(this, on, _)| (*this, *on) == (outcome, hook));
        found.map_or_else(Counter::default, |(.., counter)| counter)
    }

    /// Makes what is loaded from now on meet a map of its own, as after an upgrade.
    pub fn unpin(&self, map: &str) {
        std::fs::remove_file(self.pin(map)).unwrap();
    }

    pub fn pin(&self, map: &str) -> PathBuf {
        self.options.root.join("maps").join(map)
    }

    pub fn program(&self, name: &str) -> ProgramMut<'_> {
        let lazy = || {
            let at = LAZY.iter().position(|each| *each == name)?;
            let datapath = self.lazy[at].get_or_init(|| {
                let mut options = self.options.clone();
                options.programs_off.remove(name);
                Datapath::open(options).unwrap()
            });
            datapath.program(name)
        };
        let program = self.datapath.program(name).or_else(lazy);
        program.unwrap_or_else(|| panic!("there is no program `{name}`"))
    }

    /// A service of one frontend: every backend, `IP:PORT`, serves every client.
    pub fn serve(&self, frontend: Frontend, backends: &[&str]) -> Served<'_> {
        let id = self.number();
        if ![Addr::V4_WILDCARD, Addr::V6_WILDCARD].contains(&frontend.vip) {
            let cluster = frontend.kind == ServiceKind::ClusterIp;
            self.vip(&frontend.vip, if cluster { VIP_CLUSTER_IP } else { VIP_EXTERNAL });
        }
        let served = Served { objects: self, frontend, id, generation: AtomicU32::new(0) };
        served.set_backends(&backends.iter().map(|each| self.target(each)).collect::<Vec<_>>());
        served
    }

    /// A target in use by one (service, backend).
    /// As if nothing had ever been open.
    pub fn forget_flows(&self) {
        let maps = self.maps();
        for flows in [&maps.flows, &maps.flows_new] {
            let keys: Vec<_> = flows.entries().unwrap().into_iter().map(|(key, _)| key).collect();
            assert!(flows.remove_batch(&keys).is_empty());
        }
        assert!(maps.flows.entries().unwrap().is_empty());
    }

    pub fn target(&self, address: &str) -> Target {
        let index = self.number();
        let epoch = (index * 7) as u16;
        let target = Target { index, epoch, address: address.parse().unwrap() };
        self.set_target(&target, TargetStatus::Active);
        target
    }

    pub fn set_target(&self, target: &Target, status: TargetStatus) {
        let state = TargetState { epoch: target.epoch, status: status as u8, ..Default::default() };
        self.maps().target_state.set(&target.index, &state).unwrap();
    }

    /// Makes the node own an address, flags as in [`abi::OWNED_NODEPORT`].
    pub fn own(&self, address: &str, flags: u32) {
        let address: IpAddr = address.parse().unwrap();
        self.maps().owned.set(&address.into(), &Owned { ifindex: 1, flags }).unwrap();
    }

    /// Makes `address` a service's, flags as in [`abi::VIP_CLUSTER_IP`].
    pub fn vip(&self, address: &Addr, flags: u32) {
        self.maps().vips.set(address, &Vip { flags, pad: 0 }).unwrap();
    }

    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// One entry of `target_state` and who it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    pub index: u32,
    pub epoch: u16,
    pub address: SocketAddr,
}

impl Target {
    pub fn gone(&self) -> GoneTarget {
        GoneTarget { target: self.index, epoch: self.epoch, pad: 0 }
    }
}

/// A service in the tables.
#[derive(Debug)]
pub struct Served<'a> {
    objects: &'a Objects,
    pub frontend: Frontend,
    pub id: u32,
    generation: AtomicU32,
}

impl Served<'_> {
    /// Writes a new generation of slots and flips the service to it.
    pub fn set_backends(&self, targets: &[Target]) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        for (slot, target) in (0..).zip(targets) {
            let key = BackendKey { service: self.id, generation: self.generation(), slot };
            let backend = Backend {
                addr: target.address.ip().into(),
                port: target.address.port().into(),
                flags: 0,
                target: target.index,
                target_epoch: target.epoch,
                weight: 1,
                pad: 0,
            };
            self.objects.maps().backends.set(&key, &backend).unwrap();
            let states = &self.objects.maps().target_state;
            let state = states.get(&target.index).unwrap().unwrap();
            states.set(&target.index, &TargetState { slot: slot as u16, ..state }).unwrap();
        }
        self.change(|service| {
            let all = SlotRange { first: 0, count: targets.len() as u16 };
            service.outside = all;
            service.inside = all;
            service.flags = if targets.is_empty() { 0 } else { SERVICE_HAS_ENDPOINTS };
        });
    }

    /// The targets of its current slots.
    pub fn targets(&self) -> Vec<Target> {
        let maps = self.objects.maps();
        let key = |slot| BackendKey { service: self.id, generation: self.generation(), slot };
        (0..)
            .map_while(|slot| maps.backends.get(&key(slot)).unwrap())
            .map(|backend| Target {
                index: backend.target,
                epoch: backend.target_epoch,
                address: SocketAddr::new(backend.addr.ip(), backend.port.get()),
            })
            .collect()
    }

    /// Rewrites the service's own entry.
    pub fn change(&self, change: impl FnOnce(&mut Service)) {
        let mut service = self.value();
        change(&mut service);
        self.objects.maps().services.set(&self.frontend.key(), &service).unwrap();
    }

    fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    fn value(&self) -> Service {
        let stored = self.objects.maps().services.get(&self.frontend.key()).unwrap();
        Service {
            generation: self.generation(),
            ..stored.unwrap_or(Service {
                id: self.id,
                generation: 0,
                outside: SlotRange::default(),
                inside: SlotRange::default(),
                flags: 0,
                kind: self.frontend.kind as u8,
                algorithm: 0,
                affinity_timeout: 0,
                maglev_offset: 0,
                maglev_size: 0,
            })
        }
    }
}
