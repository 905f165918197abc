// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/endpoint.h`, `owned.h`, `uplink.h` and `xdp_device.h`: this node's pods, addresses and
//! devices.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, same_layout};
use crate::skel::bpf_maps::types;

/// Value of `endpoints`; the key is the pod's [`Addr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    /// Host side of the pod's veth pair.
    pub ifindex: u32,
    pub mac: [u8; 6],
    pub host_mac: [u8; 6],
    /// `SO_NETNS_COOKIE` of the pod, 0 when unknown.
    pub netns_cookie: u64,
    /// What this node's namespace calls the pod's (`link-netnsid` of `ip link`) plus 1, 0 when unknown.
    pub netns_number: u32,
    pub pad: u32,
}

/// NodePorts are served on this address.
pub const OWNED_NODEPORT: u32 = 1 << 0;
/// NodePorts are served on this address for the host's own sockets only.
pub const OWNED_LOOPBACK: u32 = 1 << 1;

/// Value of `owned`; the key is the [`Addr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Owned {
    pub ifindex: u32,
    pub flags: u32,
}

/// Value of `uplinks`; the key is the ifindex, a native-endian `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Uplink {
    /// [`Addr::ZERO`] when the device has no address of that family.
    pub snat_v4: Addr,
    pub snat_v6: Addr,
    pub snat_v4_target: u32,
    pub snat_v6_target: u32,
    pub snat_v4_epoch: u16,
    pub snat_v6_epoch: u16,
    pub mtu: u32,
}

/// Value of `xdp_devices`; the key is the ifindex, a native-endian `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XdpDevice {
    /// Frames to other addresses are not for this node.
    pub mac: [u8; 6],
    pub pad: u16,
}

/// Key of `xdp_vlans`, whose value is an external device's ifindex. A tag is its TPID and, in the
/// lower half, the VLAN's number (IEEE 802.1Q), in host byte order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XdpVlanKey {
    pub parent: u32,
    pub outer: u32,
    /// 0: there is one tag only.
    pub inner: u32,
}

/// A cluster IP: unknown ports of it are refused to everyone inside.
pub const VIP_CLUSTER_IP: u32 = 1 << 0;
/// Unknown ports are refused only to what the network brings to this node.
pub const VIP_EXTERNAL: u32 = 1 << 1;
/// A load balancer of another class owns it: unknown ports are none of our business.
pub const VIP_FOREIGN: u32 = 1 << 2;

/// Value of `vips`; the key is an [`Addr`] that services use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Vip {
    /// `VIP_*`.
    pub flags: u32,
    pub pad: u32,
}

same_layout!(Endpoint, types::endpoint, [ifindex, mac, host_mac, netns_cookie, netns_number, pad]);
same_layout!(Owned, types::owned, [ifindex, flags]);
same_layout!(XdpDevice, types::xdp_device, [mac, pad]);
same_layout!(XdpVlanKey, types::xdp_vlan_key, [parent, outer, inner]);
same_layout!(Vip, types::vip, [flags, pad]);
same_layout!(
    Uplink,
    types::uplink,
    [snat_v4, snat_v6, snat_v4_target, snat_v6_target, snat_v4_epoch, snat_v6_epoch, mtu]
);
