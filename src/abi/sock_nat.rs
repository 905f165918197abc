// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/sock_nat.h` and `sock_iter.h`: what a socket was translated to, and which to destroy.

use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_iter::types as iter_types;
use crate::skel::bpf_maps::types;

/// The entry holds a translation.
pub const SOCK_NAT_USED: u8 = 1 << 0;
/// Its frontend is shown as the source of what its backend sends.
pub const SOCK_NAT_SHOWN: u8 = 1 << 1;

/// One translation of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockNatEntry {
    pub backend: Addr,
    pub frontend: Addr,
    pub backend_port: U16,
    pub frontend_port: U16,
    pub service: u32,
    pub target: u32,
    pub target_epoch: u16,
    pub proto: u8,
    /// [`SOCK_NAT_USED`] | [`SOCK_NAT_SHOWN`].
    pub flags: u8,
}

/// Value of `sock_nat`, the socket's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockNat {
    pub next: u32,
    pub pad: u32,
    pub entries: [SockNatEntry; 8],
}

/// Key of `gone_targets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GoneTarget {
    /// Index into `target_state`.
    pub target: u32,
    /// Its epoch while sockets were sent there.
    pub epoch: u16,
    pub pad: u16,
}

/// One record that `find_stale` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StaleSock {
    pub cookie: u64,
    pub local: Addr,
    pub peer: Addr,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    pub ifindex: u32,
    pub local_port: U16,
    pub peer_port: U16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    pub pad: u16,
}

same_layout!(GoneTarget, iter_types::gone_target, [target, epoch, pad]);
same_layout!(
    StaleSock,
    iter_types::stale_sock,
    [cookie, local, peer, netns, ifindex, local_port, peer_port, family, pad]
);
same_layout!(
    SockNatEntry,
    types::sock_nat_entry,
    [backend, frontend, backend_port, frontend_port, service, target, target_epoch, proto, flags]
);
same_layout!(SockNat, types::sock_nat, [next, pad, entries]);
