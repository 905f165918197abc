/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one place where a program says what it did with a packet: counted always, told on request. */
#pragma once

#include "event.h"
#include "packet.h"

static __noinline void report_event(struct __sk_buff *skb, const struct packet *packet,
				    enum hook hook, enum outcome outcome, __u32 service)
{
	struct event event = {
		.time = bpf_ktime_get_ns(),
		.saddr = packet->key.saddr,
		.daddr = packet->key.daddr,
		.sport = packet->key.sport,
		.dport = packet->key.dport,
		.ifindex = skb->ifindex,
		.length = skb->len,
		.service = service,
		.type = outcome >= DROP_FIRST ? EVENT_DROP : EVENT_TRACE,
		.hook = hook,
		.outcome = outcome,
		.proto = packet->key.proto,
	};

	event_send(&event);
}

/* Counts @outcome and returns @action, so that an exit reads as one line. */
static __always_inline int report(struct __sk_buff *skb, const struct packet *packet,
				  enum hook hook, enum outcome outcome, __u32 service, int action)
{
	const struct settings *settings = settings_get();

	outcome_count(outcome, hook, skb->len);
	if (outcome >= DROP_FIRST || (settings && (settings->trace & (1u << hook))))
		report_event(skb, packet, hook, outcome, service);
	return action;
}

static __always_inline int report_drop(struct __sk_buff *skb, const struct packet *packet,
				       enum hook hook, enum outcome outcome, __u32 service)
{
	return report(skb, packet, hook, outcome, service, TC_ACT_SHOT);
}
