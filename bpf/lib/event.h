/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records for `culvert monitor`: every drop, and traces where the agent asked for them. */
#pragma once

#include "addr.h"
#include "budget.h"
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

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events SEC(".maps");

static __always_inline void event_send(const struct event *event)
{
	if (budget_take(BUDGET_EVENTS, EVENTS_PER_TICK))
		bpf_ringbuf_output(&events, (void *)event, sizeof(*event), 0);
}
