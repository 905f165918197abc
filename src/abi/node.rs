// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/nodes.h`: which node an address belongs to.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

/// Key of `nodes`, a longest-prefix trie of the nodes' addresses and their pods' prefixes.
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
pub struct NodeKey {
    /// 32 and the bits of `addr`; an IPv4 prefix counts from 96.
    pub prefixlen: u32,
    pub pad: u32,
    pub addr: Addr,
}

impl NodeKey {
    pub fn new(prefix: ipnet::IpNet) -> Self {
        let mapped = if prefix.addr().is_ipv4() { 96 } else { 0 };
        let prefixlen = 32 + mapped + u32::from(prefix.prefix_len());
        Self { prefixlen, pad: 0, addr: prefix.network().into() }
    }
}

/// An address of the node itself, not one of its pods'.
pub const NODE_ADDRESS: u32 = 1 << 0;

/// Value of `nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NodeAddress {
    /// Where the node is reached, of either family.
    pub addr: Addr,
    /// `NODE_*`.
    pub flags: u32,
    pub pad: u32,
}

same_layout!(NodeKey, types::node_key, [prefixlen, pad, addr]);
same_layout!(NodeAddress, types::node, [addr, flags, pad]);
