/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records for `culvert monitor`: every drop, and traces where the agent asked for them. */
#pragma once

#include "addr.h"
#include "clock.h"
#include "config.h"
#include "outcome.h"

#define EVENTS_BYTES (1 << 18)

/* Drop events a CPU may send in one tick; the counters stay exact. */
#define EVENTS_PER_TICK 256

enum event_type {
	EVENT_DROP = 1,
	EVENT_TRACE = 2,
};

struct event {
	__u64 time; /* ns of CLOCK_MONOTONIC */
	struct addr saddr;
	struct addr daddr;
	__be16 sport;
	__be16 dport;
	__u32 ifindex;
	__u32 length;
	__u32 service; /* 0: none was found */
	__s32 error;   /* of the helper that failed, 0 when none did */
	__u8 type;     /* enum event_type */
	__u8 hook;     /* enum hook */
	__u8 outcome;  /* enum outcome */
	__u8 proto;
};
_Static_assert(sizeof(struct event) == 64, "event is ABI with the agent");

struct event_budget {
	__u32 tick;
	__u32 sent;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct event_budget);
	__uint(max_entries, 1);
} event_budgets SEC(".maps");

static __always_inline bool event_allowed(void)
{
	const __u32 zero = 0;
	struct event_budget *budget = bpf_map_lookup_elem(&event_budgets, &zero);
	__u32 tick = clock_ticks();

	if (!budget)
		return false;
	if (budget->tick != tick) {
		budget->tick = tick;
		budget->sent = 0;
	}
	return budget->sent++ < EVENTS_PER_TICK;
}

static __always_inline void event_send(const struct event *event)
{
	if (event_allowed())
		bpf_ringbuf_output(&events, (void *)event, sizeof(*event), 0);
}
