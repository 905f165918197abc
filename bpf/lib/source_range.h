/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* loadBalancerSourceRanges: which clients a frontend serves, or refuses where its flags say so. */
#pragma once

#include "service.h"

#define SOURCE_RANGES_MAX 65536

/* Bits of source_range_key before the address. */
#define SOURCE_RANGE_FIXED 32

struct source_range_key {
	__u32 prefixlen; /* SOURCE_RANGE_FIXED and the bits of @addr; IPv4 counts from 96 */
	__u32 service;
	struct addr addr;
};
_Static_assert(sizeof(struct source_range_key) == 24, "source_range_key is map ABI");

struct source_range {
	__u32 pad;
};
_Static_assert(sizeof(struct source_range) == 4, "source_range is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct source_range_key);
	__type(value, struct source_range);
	__uint(max_entries, SOURCE_RANGES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
} source_ranges SEC(".maps");

/* Whether @service, which has SERVICE_SOURCE_RANGES, takes new connections of @client. */
static __always_inline bool source_range_permits(const struct service *service,
						 const struct addr *client)
{
	const struct source_range_key key = {
		.prefixlen = SOURCE_RANGE_FIXED + 8 * sizeof(*client),
		.service = service->id,
		.addr = *client,
	};
	const bool listed = bpf_map_lookup_elem(&source_ranges, &key);

	return listed != !!(service->flags & SERVICE_SOURCE_RANGES_DENY);
}
