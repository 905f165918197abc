/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every address this node owns, kept live from netlink, so that a VIP added later works at once. */
#pragma once

#include "addr.h"

#define OWNED_MAX 4096

enum owned_flag {
	OWNED_NODEPORT = 1 << 0, /* NodePorts are served on it */
	OWNED_LOOPBACK = 1 << 1, /* NodePorts are served on it for the host's own sockets only */
};

struct owned {
	__u32 ifindex;
	__u32 flags; /* enum owned_flag */
};
_Static_assert(sizeof(struct owned) == 8, "owned is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct addr);
	__type(value, struct owned);
	__uint(max_entries, OWNED_MAX);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} owned SEC(".maps");

static __always_inline const struct owned *owned_lookup(const struct addr *addr)
{
	return bpf_map_lookup_elem(&owned, addr);
}
