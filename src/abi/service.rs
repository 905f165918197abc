// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/service.h`: frontends, backend slots and target states.

use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

/// Key of `services`: one frontend.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct ServiceKey {
    pub vip: Addr,
    pub port: U16,
    /// `IPPROTO_*`.
    pub proto: u8,
    pub pad: [u8; 5],
}

impl ServiceKey {
    pub const fn new(vip: Addr, port: u16, proto: u8) -> Self {
        Self { vip, port: U16::new(port), proto, pad: [0; 5] }
    }
}

/// What a frontend is to Kubernetes, `enum service_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ServiceKind {
    ClusterIp = 1,
    NodePort = 2,
    ExternalIp = 3,
    LoadBalancer = 4,
    HostPort = 5,
}

impl ServiceKind {
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::ClusterIp,
            2 => Self::NodePort,
            3 => Self::ExternalIp,
            4 => Self::LoadBalancer,
            5 => Self::HostPort,
            _ => return None,
        })
    }

    /// As `culvert service list` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::ExternalIp => "ExternalIPs",
            Self::LoadBalancer => "LoadBalancer",
            Self::HostPort => "HostPort",
        }
    }
}

/// The service has a usable endpoint somewhere: an empty slot range drops instead of refusing.
pub const SERVICE_HAS_ENDPOINTS: u16 = 1 << 0;
pub const SERVICE_AFFINITY: u16 = 1 << 1;
pub const SERVICE_SOURCE_RANGES: u16 = 1 << 2;
pub const SERVICE_SOURCE_RANGES_DENY: u16 = 1 << 3;
/// Remote backends answer clients outside by themselves.
pub const SERVICE_DSR: u16 = 1 << 4;
/// A local backend gets the packet as it came.
pub const SERVICE_DELEGATE: u16 = 1 << 5;

/// `enum service_algorithm`.
pub const SERVICE_RANDOM: u8 = 0;
pub const SERVICE_MAGLEV: u8 = 1;

/// Slots `first .. first + count` of a service's backend list.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SlotRange {
    pub first: u16,
    pub count: u16,
}

/// Value of `services`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    pub id: u32,
    pub generation: u32,
    pub outside: SlotRange,
    pub inside: SlotRange,
    pub flags: u16,
    pub kind: u8,
    pub algorithm: u8,
    /// Ticks of the datapath's clock, see [`super::ticks`].
    pub affinity_timeout: u32,
    pub maglev_offset: u32,
    pub maglev_size: u32,
}

/// Key of `backends`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct BackendKey {
    pub service: u32,
    pub generation: u32,
    pub slot: u32,
}

/// The backend runs on this node.
pub const BACKEND_LOCAL: u16 = 1 << 0;
/// Listed, and used only while no ready one is left.
pub const BACKEND_TERMINATING: u16 = 1 << 1;
/// In no range: its connections go on, it gets no new ones.
pub const BACKEND_NOT_READY: u16 = 1 << 2;

/// Value of `backends`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Backend {
    pub addr: Addr,
    pub port: U16,
    pub flags: u16,
    /// Index into `target_state`.
    pub target: u32,
    pub target_epoch: u16,
    pub weight: u16,
    pub pad: u32,
}

/// `enum target_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TargetStatus {
    Free = 0,
    Active = 1,
    Terminating = 2,
    Gone = 3,
}

/// Value of `target_state`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TargetState {
    pub epoch: u16,
    /// [`TargetStatus`] as a number.
    pub status: u8,
    pub pad: u8,
    /// In its list's newest generation; 0 for targets without a list.
    pub slot: u16,
    pub pad2: u16,
}

/// Value of `maglev`: part of a table, each slot a number in the frontend's `outside` range.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct MaglevSlots {
    pub slot: [u16; 4],
}

same_layout!(MaglevSlots, types::maglev_slots, [slot]);
same_layout!(ServiceKey, types::service_key, [vip, port, proto, pad]);
same_layout!(SlotRange, types::slot_range, [first, count]);
same_layout!(
    Service,
    types::service,
    [
        id,
        generation,
        outside,
        inside,
        flags,
        kind,
        algorithm,
        affinity_timeout,
        maglev_offset,
        maglev_size
    ]
);
same_layout!(BackendKey, types::backend_key, [service, generation, slot]);
same_layout!(Backend, types::backend, [addr, port, flags, target, target_epoch, weight, pad]);
same_layout!(TargetState, types::target_state, [epoch, status, pad, slot, pad2]);
