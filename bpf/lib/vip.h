/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The addresses that services use, so that traffic which is no service's pays one lookup, and an
 * unknown port of such an address has an answer.
 *
 * An address is here before the first frontend that uses it and until after the last.
 */
#pragma once

#include "addr.h"

#define VIPS_MAX 65536

enum vip_flag {
	/* A cluster IP: it exists nowhere but in the service table, so an unknown port of it is
	   refused to everyone inside. */
	VIP_CLUSTER_IP = 1 << 0,
	/* A load balancer's address or an external one: others than we may serve ports on it, so
	   only what the network brings to this node is refused, never looped. */
	VIP_EXTERNAL = 1 << 1,
	/* A load balancer of another class owns it: unknown ports are none of our business. */
	VIP_FOREIGN = 1 << 2,
};

struct vip {
	__u32 flags; /* enum vip_flag */
	__u32 pad;
};
_Static_assert(sizeof(struct vip) == 8, "vip is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct addr);
	__type(value, struct vip);
	__uint(max_entries, VIPS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
} vips SEC(".maps");

static __always_inline const struct vip *vip_lookup(const struct addr *addr)
{
	return bpf_map_lookup_elem(&vips, addr);
}
