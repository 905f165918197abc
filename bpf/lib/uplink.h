/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The external devices of this node, by ifindex, with the addresses SNAT uses on each. */
#pragma once

#include "addr.h"

#define UPLINKS_MAX 256

struct uplink {
	struct addr snat_v4; /* zero: this family is not served here */
	struct addr snat_v6;
	__u32 snat_v4_target; /* index into target_state: withdrawing the address ends its flows */
	__u32 snat_v6_target;
	__u16 snat_v4_epoch;
	__u16 snat_v6_epoch;
	__u32 mtu;
};
_Static_assert(sizeof(struct uplink) == 48, "uplink is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct uplink);
	__uint(max_entries, UPLINKS_MAX);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} uplinks SEC(".maps");

static __always_inline const struct uplink *uplink_lookup(__u32 ifindex)
{
	return bpf_map_lookup_elem(&uplinks, &ifindex);
}
