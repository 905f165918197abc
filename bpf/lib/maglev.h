/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which backend a client outside the cluster gets, so that every node gives it the same one.
 *
 * The agent lays tables into `maglev` (src/lb/maglev.rs): many small slots, each the number of a
 * backend in the frontend's `outside` range. The maps are a node's own, the choice is not: the same
 * client meets the same endpoint on each.
 */
#pragma once

#include "config.h"
#include "flow.h"
#include "service.h"

/* Words of four slots. The agent sizes the map. */
#define MAGLEV_MAX 131072

/* An array rounds every value up to eight bytes. */
struct maglev_slots {
	__u16 slot[4];
};
_Static_assert(sizeof(struct maglev_slots) == 8, "maglev_slots is map ABI");

/*
 * Not BPF_F_RDONLY_PROG: the kernel refuses to map such a map writable (bpf_map_mmap), lest it be
 * frozen later. Programs only read it all the same.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct maglev_slots);
	__uint(max_entries, MAGLEV_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
} maglev SEC(".maps");

/* Places of the smallest table, and how often that can double. */
#define MAGLEV_BASE 2999
#define MAGLEV_DOUBLINGS 6

#define MAGLEV_MUL_1 0x9fb21c651e98df25ULL
#define MAGLEV_MUL_2 0xd6e8feb86659fd93ULL

static __always_inline __u64 maglev_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * MAGLEV_MUL_1;
	return hash ^ hash >> 32;
}

/*
 * The same on every node, whichever address of the service was asked: of the client, its port
 * unless the service has affinity, the destination port and the protocol. src/lb/maglev.rs does the
 * same.
 */
static __always_inline __u32 maglev_hash(const struct flow_key *key, bool with_port)
{
	const __u64 seed = (__u64)CONFIG.maglev_seed[1] << 32 | CONFIG.maglev_seed[0];
	const __u32 sport = with_port ? key->sport : 0;
	__u64 hash;

	hash = maglev_mix(seed, key->saddr.d[0]);
	hash = maglev_mix(hash, key->saddr.d[1]);
	hash = maglev_mix(hash, (__u64)key->proto << 32 | sport << 16 | key->dport);
	hash = (hash ^ CONFIG.maglev_seed[2]) * MAGLEV_MUL_2;
	return hash >> 32;
}

/*
 * The place of @hash in a table of @size places. A table grows by linear hashing: the hash names a
 * place of the largest one, and wherever that was split off from a place that this table does not
 * have, it is its origin's. src/lb/maglev.rs does the same.
 */
static __always_inline __u32 maglev_place(__u32 hash, __u32 size)
{
	__u32 place = ((__u64)hash * (MAGLEV_BASE << MAGLEV_DOUBLINGS)) >> 32;
	__u32 split;
	int level;

#pragma unroll
	for (level = MAGLEV_DOUBLINGS; level > 0; level--) {
		split = (MAGLEV_BASE << (level - 1)) + place / 2;
		if (place % 2 && split < size)
			return split;
		place /= 2;
	}
	return place;
}

/* The number in @range for the sender of @key. False where @service has no table. */
static __always_inline bool maglev_choose(const struct service *service,
					  const struct slot_range *range,
					  const struct flow_key *key, __u32 *number)
{
	const struct maglev_slots *slots;
	__u32 hash, place, index;

	if (service->algorithm != SERVICE_MAGLEV || key->zone == ZONE_POD)
		return false;
	hash = maglev_hash(key, !(service->flags & SERVICE_AFFINITY));
	place = service->maglev_offset + maglev_place(hash, service->maglev_size);
	index = place / 4;
	slots = bpf_map_lookup_elem(&maglev, &index);
	if (!slots)
		return false;
	*number = slots->slot[place % 4];
	/* A table and the service that uses it change together; if they do not, chance decides. */
	return *number < range->count;
}
