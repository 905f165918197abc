/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How often a CPU may do, in one tick, what a flood could otherwise make it do for every packet. */
#pragma once

#include "clock.h"

enum budget_of {
	BUDGET_EVENTS = 0,
	BUDGET_REJECTS = 1,
	BUDGET_MAX = 2,
};

struct budget {
	__u32 tick;
	__u32 spent;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct budget);
	__uint(max_entries, BUDGET_MAX);
} budgets SEC(".maps");

static __always_inline bool budget_take(enum budget_of of, __u32 limit)
{
	const __u32 index = of;
	struct budget *budget = bpf_map_lookup_elem(&budgets, &index);
	__u32 tick = clock_ticks();

	if (!budget)
		return false;
	if (budget->tick != tick) {
		budget->tick = tick;
		budget->spent = 0;
	}
	return budget->spent++ < limit;
}
