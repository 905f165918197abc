// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/affinity.h` and `source_range.h`: clients' last targets, and which clients are served.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

/// Key of `affinities`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AffinityKey {
    /// [`Addr::ZERO`] stands for the node's own sockets.
    pub client: Addr,
    pub service: u32,
    pub pad: u32,
}

/// Value of `affinities`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Affinity {
    /// Index into `target_state`.
    pub target: u32,
    pub target_epoch: u16,
    pub pad: u16,
    /// Ticks of the datapath's clock.
    pub last_used: u32,
    pub pad2: u32,
}

/// Value of `clients`: a pod's addresses; the key is its `SO_NETNS_COOKIE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Client {
    /// [`Addr::ZERO`] when it has none of that family.
    pub v4: Addr,
    pub v6: Addr,
}

/// Key of `source_ranges`, a longest-prefix trie.
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
pub struct SourceRangeKey {
    /// 32 for the service and the bits of `addr`; an IPv4 prefix counts from 96.
    pub prefixlen: u32,
    pub service: u32,
    pub addr: Addr,
}

impl SourceRangeKey {
    pub fn new(service: u32, range: ipnet::IpNet) -> Self {
        let mapped = if range.addr().is_ipv4() { 96 } else { 0 };
        let prefixlen = 32 + mapped + u32::from(range.prefix_len());
        Self { prefixlen, service, addr: range.network().into() }
    }
}

/// Value of `source_ranges`: that there is one says all.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SourceRange {
    pub pad: u32,
}

same_layout!(AffinityKey, types::affinity_key, [client, service, pad]);
same_layout!(Affinity, types::affinity, [target, target_epoch, pad, last_used, pad2]);
same_layout!(Client, types::client, [v4, v6]);
same_layout!(SourceRangeKey, types::source_range_key, [prefixlen, service, addr]);
same_layout!(SourceRange, types::source_range, [pad]);
