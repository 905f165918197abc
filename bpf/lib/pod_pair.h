/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which two addresses may have a flow that a pod's packets hit, so that pods which talk to each
 * other directly do not look for one with every packet.
 *
 * A place is marked before the first such flow of its pair is stored and never cleared: wrong marks
 * cost the lookups that they would have spared. Answers to clients outside are not marked, or the
 * clients of a busy service would fill the table; no pod is at the end of those flows.
 */
#pragma once

#include "addr.h"

#define POD_PAIRS_BITS 16

struct pod_pairs {
	/* Whole bytes: CPUs set neighbours at the same time. */
	__u8 marked[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct pod_pairs);
	__uint(max_entries, (1 << POD_PAIRS_BITS) / 8);
} pod_pairs SEC(".maps");

/* The place of the pair in the table, or NULL. */
static __always_inline __u8 *pod_pair(const struct addr *from, const struct addr *to)
{
	/* Two odd constants, so that the directions differ; the upper bits depend on all others. */
	const __u64 mixed = (from->d[0] ^ from->d[1]) * 0x9e3779b97f4a7c15 +
			    (to->d[0] ^ to->d[1]) * 0xbf58476d1ce4e5b9;
	const __u32 place = mixed >> (64 - POD_PAIRS_BITS);
	const __u32 index = place / 8;
	struct pod_pairs *pairs = bpf_map_lookup_elem(&pod_pairs, &index);

	return pairs ? &pairs->marked[place % 8] : NULL;
}

static __always_inline void pod_pair_mark(const struct addr *from, const struct addr *to)
{
	__u8 *marked = pod_pair(from, to);

	if (marked && !*marked)
		*marked = 1;
}

static __always_inline bool pod_pair_may_have_flow(const struct addr *from, const struct addr *to)
{
	const __u8 *marked = pod_pair(from, to);

	return !marked || *marked;
}
