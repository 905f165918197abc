// SPDX-License-Identifier: Apache-2.0
//! The writes that one service needs, and the tables they change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::list::Garbage;
use super::owner::Owner;
use super::tables::TableWrite;
use crate::abi::{
    Addr, Backend, BackendKey, Service, ServiceKey, SourceRangeKey, TargetState, Vip,
};

/// How long slots stay after the last frontend has left them: a packet that read the frontend just
/// before the flip still finds its slot.
pub const GRACE: Duration = Duration::from_secs(1);

/// One map write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Target {
        index: u32,
        state: TargetState,
    },
    Backend {
        key: BackendKey,
        value: Backend,
    },
    Service {
        key: ServiceKey,
        value: Service,
    },
    Vip {
        addr: Addr,
        value: Vip,
    },
    SourceRange {
        key: SourceRangeKey,
    },
    /// `settings.host_ports`.
    HostPorts {
        count: u32,
    },
    RemoveService {
        key: ServiceKey,
    },
    RemoveBackend {
        key: BackendKey,
    },
    RemoveVip {
        addr: Addr,
    },
    RemoveSourceRange {
        key: SourceRangeKey,
    },
}

/// A target that takes no more part: sockets connected to it are to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Id of the service it belonged to.
    pub service: u32,
    pub addr: Addr,
    /// Host byte order.
    pub port: u16,
    /// `IPPROTO_*`; 0 when an earlier agent left it and nothing more is known of it.
    pub proto: u8,
    pub target: u32,
    pub target_epoch: u16,
}

/// Why a slice changed, as its `last-change-trigger-time` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Nanoseconds since the Unix epoch.
    pub at: i128,
    pub v6: bool,
}

/// The writes of one service. Carry the phases out in the order of the fields, then tell the
/// [`super::Balancer`] with `applied` or `failed`.
#[derive(Debug, Default)]
pub struct Plan {
    /// None: orphans, which nobody owns.
    pub owner: Option<Owner>,
    /// Before all else. Writing one cannot fail.
    pub tables: Vec<TableWrite>,
    pub prepare: Vec<Write>,
    pub remove: Vec<Write>,
    /// New slot numbers of targets that stay. Until `flip`, a client's affinity to one of them
    /// finds another backend at that slot and is chosen anew.
    pub renumber: Vec<Write>,
    pub flip: Vec<Write>,
    pub gone: Vec<Write>,
    /// Not before [`GRACE`] has passed since `flip`, and only if all before it succeeded.
    pub later: Vec<Write>,
    /// Tables to hand back together with `later`.
    pub released: Vec<u32>,
    pub ended: Vec<Gone>,
    /// Of the slices behind this plan.
    pub triggered: Vec<Trigger>,
    pub(super) garbage: Vec<Garbage>,
    /// Addresses that the service used or uses.
    pub(super) touched: BTreeSet<Addr>,
}

impl Plan {
    /// Nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.released.is_empty() && self.phases().all(<[Write]>::is_empty)
    }

    /// The phases in their order.
    pub fn phases(&self) -> impl Iterator<Item = &[Write]> {
        [&self.prepare, &self.remove, &self.renumber, &self.flip, &self.gone, &self.later]
            .into_iter()
            .map(Vec::as_slice)
    }
}

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    pub services: BTreeMap<ServiceKey, Service>,
    pub backends: BTreeMap<BackendKey, Backend>,
    /// Without the indices that were never used.
    pub targets: BTreeMap<u32, TargetState>,
    pub vips: BTreeMap<Addr, Vip>,
    pub source_ranges: BTreeSet<SourceRangeKey>,
    /// `settings.host_ports`.
    pub host_ports: u32,
    /// By offset, those that services point to.
    pub tables: BTreeMap<u32, Arc<[u16]>>,
}

impl Actual {
    /// What one write makes of the tables.
    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Target { index, state } => {
                self.targets.insert(index, state);
            }
            Write::Backend { key, value } => {
                self.backends.insert(key, value);
            }
            Write::Service { key, value } => {
                self.services.insert(key, value);
            }
            Write::Vip { addr, value } => {
                self.vips.insert(addr, value);
            }
            Write::SourceRange { key } => {
                self.source_ranges.insert(key);
            }
            Write::HostPorts { count } => self.host_ports = count,
            Write::RemoveVip { addr } => {
                self.vips.remove(&addr);
            }
            Write::RemoveSourceRange { key } => {
                self.source_ranges.remove(&key);
            }
            Write::RemoveService { key } => {
                self.services.remove(&key);
            }
            Write::RemoveBackend { key } => {
                self.backends.remove(&key);
            }
        }
    }
}

/// Counts over all services, for metrics and `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub services: u32,
    /// By [`crate::abi::ServiceKind`] minus one.
    pub frontends: [u32; 5],
    pub backends: u32,
    pub backends_terminating: u32,
    pub backends_not_ready: u32,
    /// Entries of `source_ranges`.
    pub source_ranges: u32,
    /// Frontends whose remote backends answer clients themselves.
    pub dsr: u32,
    /// Service ports whose policy is Local and that have endpoints, but none on this node.
    /// IPv4 first.
    pub no_local_internal: [u32; 2],
    pub no_local_external: [u32; 2],
}

impl Totals {
    pub(super) fn add(&mut self, other: &Self) {
        self.each(other, u32::wrapping_add);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.each(other, u32::wrapping_sub);
    }

    fn each(&mut self, other: &Self, f: impl Fn(u32, u32) -> u32) {
        let pairs = [
            (&mut self.services, other.services),
            (&mut self.backends, other.backends),
            (&mut self.backends_terminating, other.backends_terminating),
            (&mut self.backends_not_ready, other.backends_not_ready),
            (&mut self.source_ranges, other.source_ranges),
            (&mut self.dsr, other.dsr),
        ];
        let pairs = pairs
            .into_iter()
            .chain(self.frontends.iter_mut().zip(other.frontends))
            .chain(self.no_local_internal.iter_mut().zip(other.no_local_internal))
            .chain(self.no_local_external.iter_mut().zip(other.no_local_external));
        for (mine, theirs) in pairs {
            *mine = f(*mine, theirs);
        }
    }
}
