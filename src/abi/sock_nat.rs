// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/sock_nat.h`: what a socket was translated to.

use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

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
    pub used: u8,
}

/// Value of `sock_nat`, the socket's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockNat {
    /// `struct bpf_spin_lock`, always 0 in what user space reads.
    pub lock: u32,
    pub next: u32,
    pub entries: [SockNatEntry; 8],
}

same_layout!(
    SockNatEntry,
    types::sock_nat_entry,
    [backend, frontend, backend_port, frontend_port, service, target, target_epoch, proto, used]
);
same_layout!(SockNat, types::sock_nat, [lock, next, entries]);
