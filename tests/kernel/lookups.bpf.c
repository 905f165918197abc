// SPDX-License-Identifier: Apache-2.0
/* The program file PROGRAM, which counts how often it looks into the flow tables. */
#include "lib/common.h"
#include "lib/flow.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} lookups SEC(".maps");

static __always_inline void *count_lookup(void)
{
	const __u32 zero = 0;
	__u32 *count = bpf_map_lookup_elem(&lookups, &zero);

	if (count)
		++*count;
	return NULL;
}

#define IS_FLOWS(map) ((void *)(map) == (void *)&flows || (void *)(map) == (void *)&flows_new)
#define bpf_map_lookup_elem(map, key)                                                              \
	(IS_FLOWS(map) ? count_lookup() : NULL, (bpf_map_lookup_elem)(map, key))

#include PROGRAM
