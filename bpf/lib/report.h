/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program decided about a packet, and the one place where that is counted and told.
 *
 * A verdict is an outcome and a tc action in one int, so that every step of a walk can return it.
 */
#pragma once

#include "event.h"
#include "packet.h"

/* Not a verdict: the step has nothing to say about this packet, the walk goes on. */
#define VERDICT_NONE (-1)

static __always_inline int verdict(enum outcome outcome, int action)
{
	return (outcome << 8) | (action & 0xff);
}

static __always_inline int verdict_drop(enum outcome outcome)
{
	return verdict(outcome, TC_ACT_SHOT);
}

/* Tells of a frame of @length bytes that came in on, or leaves by, @ifindex. */
static __always_inline void report_frame(__u32 ifindex, __u32 length, const struct packet *packet,
					 enum hook hook, enum outcome outcome)
{
	struct event event = {
		.time = bpf_ktime_get_ns(),
		.saddr = packet->key.saddr,
		.daddr = packet->key.daddr,
		.sport = packet->key.sport,
		.dport = packet->key.dport,
		.ifindex = ifindex,
		.length = length,
		.service = packet->service,
		.type = outcome_is_drop(outcome) ? EVENT_DROP : EVENT_TRACE,
		.hook = hook,
		.outcome = outcome,
		.proto = packet->key.proto,
	};

	event_send(&event);
}

/* Counts the verdict @decided, tells it where it is a drop or traced, and returns its tc action. */
static __always_inline int report(struct __sk_buff *skb, const struct packet *packet,
				  enum hook hook, int decided)
{
	const struct settings *settings = settings_get();
	const __u32 outcome = (decided >> 8) & 0xff;

	outcome_count(outcome, hook, skb->len);
	if (outcome_is_drop(outcome) || (settings && (settings->trace & (1u << hook))))
		report_frame(skb->ifindex, skb->len, packet, hook, outcome);
	return (__s8)decided;
}
