// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/event.h`: records on the ring `events`.

use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

pub const EVENT_DROP: u8 = 1;
pub const EVENT_TRACE: u8 = 2;

/// One drop or trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: U16,
    pub dport: U16,
    pub ifindex: u32,
    pub length: u32,
    /// Id of the service, 0 when none was found.
    pub service: u32,
    /// Negative errno of the helper that failed, 0 when none did.
    pub error: i32,
    /// [`EVENT_DROP`] or [`EVENT_TRACE`].
    pub r#type: u8,
    pub hook: u8,
    pub outcome: u8,
    pub proto: u8,
}

same_layout!(
    Event,
    types::event,
    [
        time, saddr, daddr, sport, dport, ifindex, length, service, error, r#type, hook, outcome,
        proto
    ]
);
