// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/flow.h`: keys and values of `flows` and `flows_new`.

use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

/// Where a packet is met, `enum flow_zone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Zone {
    Pod = 1,
    Wire = 2,
    Overlay = 3,
    Host = 4,
}

/// How a packet leaves, `enum flow_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowKind {
    Stack = 1,
    Local = 2,
    L2 = 3,
    Tunnel = 4,
}

/// Bits of [`Flow::flags`], `enum flow_flag`.
pub mod flow_flag {
    pub const REPLY: u16 = 1 << 0;
    pub const HAIRPIN: u16 = 1 << 1;
    pub const XDP: u16 = 1 << 2;
    pub const OPTION: u16 = 1 << 3;
    pub const ADDR_ONLY: u16 = 1 << 4;
    pub const NEW: u16 = 1 << 5;
    pub const NO_MAC: u16 = 1 << 6;
    pub const OWN_SOURCE: u16 = 1 << 7;
    pub const TO_STACK: u16 = 1 << 8;
    /// LB node: answers do not come back this way.
    pub const DSR: u16 = 1 << 9;
    /// Backend's node: the request came translated, the answer is translated here.
    pub const DSR_END: u16 = 1 << 10;
    /// Leads to a connection under another port of the client's.
    pub const DSR_ALIAS: u16 = 1 << 11;
    /// LB node: confirmed by the client's side alone, which has sent nothing in a later tick.
    pub const UNPROVEN: u16 = 1 << 12;
}

/// Bits of [`Flow::tcp_own`] and [`Flow::tcp_peer`], `enum flow_tcp`.
pub mod flow_tcp {
    pub const SYN: u8 = 1 << 0;
    pub const ACK: u8 = 1 << 1;
    pub const FIN: u8 = 1 << 2;
    pub const RST: u8 = 1 << 3;
}

/// The tuple a packet carries where it is met.
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
pub struct FlowKey {
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: U16,
    pub dport: U16,
    pub proto: u8,
    pub zone: u8,
    pub pad: u16,
}

/// Everything that is done to a translated packet in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: U16,
    pub dport: U16,
    pub ifindex: u32,
    /// `l2`: destination and source MAC of the next hop.
    pub output: [u8; 12],
    pub route_epoch: u32,
    pub service: u32,
    /// With [`flow_flag::DSR_ALIAS`]: tells the connection that it leads to from others.
    pub target: u32,
    pub target_epoch: u16,
    pub kind: u8,
    pub partner_zone: u8,
    pub flags: u16,
    pub tcp_own: u8,
    pub tcp_peer: u8,
    pub addr_diff: u32,
    pub port_diff: u32,
    pub in_ifindex: u32,
    /// Ticks of [`super::TICK_NANOS`].
    pub last_seen: u32,
    pub created: u32,
    pub replied: u8,
    pub told: u8,
    /// Of the output device, 0 when it is not checked.
    pub mtu: u16,
}

same_layout!(FlowKey, types::flow_key, [saddr, daddr, sport, dport, proto, zone, pad]);
same_layout!(
    Flow,
    types::flow,
    [
        saddr,
        daddr,
        sport,
        dport,
        ifindex,
        route_epoch,
        service,
        target,
        target_epoch,
        kind,
        partner_zone,
        flags,
        tcp_own,
        tcp_peer,
        addr_diff,
        port_diff,
        in_ifindex,
        last_seen,
        created,
        replied,
        told,
        mtu
    ]
);
