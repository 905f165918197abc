/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Devices whose driver hook is ours, by ifindex: a frame may be sent from the hook of one out of
 * another. And the VLAN devices above them, whose frames the hook sees with their tags.
 */
#pragma once

#include "common.h"

#define XDP_DEVICES_MAX 256
#define XDP_VLANS_MAX 4096

struct xdp_device {
	__u8 mac[ETH_ALEN]; /* frames to others are not for this node */
	__u16 pad;
};
_Static_assert(sizeof(struct xdp_device) == 8, "xdp_device is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct xdp_device);
	__uint(max_entries, XDP_DEVICES_MAX);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} xdp_devices SEC(".maps");

/* A tag is its TPID and, in the lower half, the VLAN's number (IEEE 802.1Q), in host byte order. */
struct xdp_vlan_key {
	__u32 parent; /* ifindex of the device that the frame comes in on */
	__u32 outer;
	__u32 inner; /* 0: there is one tag only */
};
_Static_assert(sizeof(struct xdp_vlan_key) == 12, "xdp_vlan_key is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct xdp_vlan_key);
	__type(value, __u32); /* ifindex of an external device */
	__uint(max_entries, XDP_VLANS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
} xdp_vlans SEC(".maps");

static __always_inline const struct xdp_device *xdp_device_lookup(__u32 ifindex)
{
	return bpf_map_lookup_elem(&xdp_devices, &ifindex);
}
