// SPDX-License-Identifier: Apache-2.0
/* bpf_host over maps whose bucket locks are held elsewhere, for the updates that a test chooses. */
#define FROM_WIRE 1

#include "lib/common.h"

/* Bit n: the nth update from now on is refused. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} refused SEC(".maps");

static __always_inline long refusing_update(void *map, const void *key, const void *value,
					    __u64 flags)
{
	const __u32 zero = 0;
	__u32 *bits = bpf_map_lookup_elem(&refused, &zero), first;

	if (!bits)
		return -EBUSY;
	first = *bits & 1;
	*bits >>= 1;
	return first ? -EBUSY : bpf_map_update_elem(map, key, value, flags);
}
#define bpf_map_update_elem refusing_update

#include "bpf_host.bpf.c"
