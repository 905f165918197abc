// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/config.h`: what is fixed per load, and the few words that change under it.

use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

/// Length of the datapath's clock tick, `bpf/lib/clock.h`.
pub const TICK_NANOS: u64 = 1 << 30;

/// `duration` in ticks, rounded up.
pub fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(u128::from(TICK_NANOS))).unwrap_or(u32::MAX)
}

/// How a packet tells the backend's node which service address it was sent to, `enum dsr_dispatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DsrDispatch {
    /// No such packet is sent or taken.
    Off = 0,
    /// An IPv4 option, an IPv6 destination option.
    Option = 1,
    /// Encapsulated as it came in IPv4 or IPv6, to the pod's address.
    Ipip = 2,
    /// Through the device [`Settings::geneve_ifindex`], in a tunnel option.
    Geneve = 3,
}

/// `CONFIG` in the `.rodata` of each program object. Ports in host byte order, times in ticks,
/// booleans as 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    pub host_netns_cookie: u64,
    pub hairpin_v4: Addr,
    pub hairpin_v6: Addr,
    pub nodeport_min: u16,
    pub nodeport_max: u16,
    pub snat_port_min: u16,
    pub snat_port_max: u16,
    pub tcp_syn_timeout: u32,
    pub tcp_established_timeout: u32,
    pub tcp_closing_timeout: u32,
    pub udp_unreplied_timeout: u32,
    pub udp_stream_timeout: u32,
    /// Bytes of `maglev.hashSeed`; programs read them as words.
    pub maglev_seed: [u8; 12],
    pub socket_lb: u8,
    pub socket_lb_host_only: u8,
    pub bind_protection: u8,
    pub nodeport: u8,
    pub bpf_host_routing: u8,
    pub spoof_check: u8,
    pub external_ips_inside: u8,
    /// [`DsrDispatch`] as a number.
    pub dsr_dispatch: u8,
    /// Take dispatched packets without a tag, from anyone.
    pub dsr_plain_in: u8,
    /// Send the option without a tag, as others read it.
    pub dsr_plain_out: u8,
    pub pad: [u8; 6],
}

/// The one value of map `settings`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    pub route_epoch: u32,
    /// Bit mask of `1 << Hook`.
    pub trace: u32,
    /// Wildcard frontends outside the NodePort range.
    pub host_ports: u32,
    /// The Geneve device that DSR uses, 0 when there is none.
    pub geneve_ifindex: u32,
    /// Of the tag in DSR options, the same on all nodes: the first signs, either is good; zero: none.
    pub dsr_keys: [[u8; 16]; 2],
    /// Outer source of packets dispatched by IPIP: the node's own addresses, zero where it has none.
    pub dsr_source_v4: Addr,
    pub dsr_source_v6: Addr,
}

same_layout!(
    Config,
    types::config,
    [
        host_netns_cookie,
        hairpin_v4,
        hairpin_v6,
        nodeport_min,
        nodeport_max,
        snat_port_min,
        snat_port_max,
        tcp_syn_timeout,
        tcp_established_timeout,
        tcp_closing_timeout,
        udp_unreplied_timeout,
        udp_stream_timeout,
        maglev_seed,
        socket_lb,
        socket_lb_host_only,
        bind_protection,
        nodeport,
        bpf_host_routing,
        spoof_check,
        external_ips_inside,
        dsr_dispatch,
        dsr_plain_in,
        dsr_plain_out,
        pad
    ]
);
same_layout!(
    Settings,
    types::settings,
    [route_epoch, trace, host_ports, geneve_ifindex, dsr_keys, dsr_source_v4, dsr_source_v6]
);
