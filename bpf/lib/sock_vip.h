/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether an address a socket names may be a service's: most are not, and pay one lookup.
 *
 * The sockets that do ask for a service would pay it on top of the service's own. A small table of
 * the addresses that were services' lately spares them that: it is read without a call. It is only
 * a hint, written without a lock; whoever believes a wrong one finds no service and then asks
 * `vips`.
 */
#pragma once

#include "vip.h"

#define VIP_HINTS_BITS 10

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct addr);
	__uint(max_entries, 1 << VIP_HINTS_BITS);
} vip_hints SEC(".maps");

/* The place of @addr in the table, or NULL. */
static __always_inline struct addr *vip_hint(const struct addr *addr)
{
	/* Fibonacci hashing: the upper bits of the product depend on all of the address. */
	const __u64 mixed = (addr->d[0] ^ addr->d[1]) * 0x9e3779b97f4a7c15ULL;
	const __u32 index = mixed >> (64 - VIP_HINTS_BITS);

	return bpf_map_lookup_elem(&vip_hints, &index);
}
