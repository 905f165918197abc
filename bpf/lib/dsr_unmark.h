/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The backend's node undoes what an LB node made of a packet: it becomes what the client sent, and
 * goes on as that. Its flow is the one that IPIP would have opened: known by client and service
 * address, with a client port towards the pod that nobody else has.
 */
#pragma once

#include "dsr_open.h"

/*
 * Whether @flow is where scratch->packet belongs, which was sent to the backend @sent. Connections
 * stay where they are: another LB node may choose another backend in their middle.
 */
static __always_inline bool dsr_belongs(const struct packet *packet, const struct flow *flow,
					const struct flow_key *sent)
{
	if (!packet_opens(packet))
		return true;
	return !flow_closing(flow) && addr_equal(&flow->daddr, &sent->daddr) &&
	       flow->dport == sent->dport;
}

/*
 * The open flow of scratch->packet, which came from an LB node with scratch->mark, or NULL. Leaves
 * in scratch->packet what the client sent, and in scratch->sent what the LB node did.
 */
static __always_inline struct flow *dsr_unmark_find(struct scratch *scratch, __u32 now)
{
	struct flow *flow;

	scratch->sent = scratch->packet.key;
	scratch->packet.key = dsr_original(&scratch->sent, &scratch->mark);
	flow = flow_find(&scratch->packet.key, now);
	return flow && dsr_belongs(&scratch->packet, flow, &scratch->sent) ? flow : NULL;
}

/*
 * Opens the flow of scratch->packet, for which dsr_unmark_find() knows none. Returns the drop
 * reason, or the negative zone where the packet goes on.
 */
__noinline int dsr_unmark_open(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const __u32 now = clock_ticks();
	const struct endpoint *endpoint;
	const struct flow_key *sent;
	struct flow *flow;

	if (!scratch)
		return DROP_FLOWS_FULL;
	sent = &scratch->sent;
	flow = flow_find(&scratch->packet.key, now);
	if (flow)
		flow_close(&scratch->packet.key, flow);
	if (dsr_is_own(&scratch->packet, &scratch->packet.key, &sent->daddr, sent->dport, now))
		return -ZONE_WIRE;

	endpoint = endpoint_lookup(&sent->daddr);
	scratch->plan = (struct flow_plan){
		.saddr = sent->saddr,
		.daddr = sent->daddr,
		.dport = sent->dport,
		.service = dsr_service_id(&scratch->mark, sent->proto),
		.reverse_zone = endpoint ? ZONE_POD : ZONE_HOST,
		.reverse_input = endpoint ? endpoint->ifindex : 0,
	};
	__builtin_memset(&scratch->forward, 0, sizeof(scratch->forward));
	scratch->forward.saddr = sent->saddr;
	scratch->forward.daddr = sent->daddr;
	if (route_find(skb, &scratch->forward))
		return DROP_NO_ROUTE;
	return flow_open(skb) ?: -ZONE_OVERLAY;
}

/* Makes what came as scratch->sent what scratch->packet says. Returns 0, or -1. */
__noinline int dsr_unmark_write(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const struct flow_key *sent;
	struct flow *undo;

	if (!scratch)
		return -1;
	sent = &scratch->sent;
	undo = &scratch->reverse;
	undo->saddr = scratch->packet.key.saddr;
	undo->daddr = scratch->packet.key.daddr;
	undo->sport = scratch->packet.key.sport;
	undo->dport = scratch->packet.key.dport;
	rewrite_prepare(sent, undo);
	scratch->packet.key = *sent;
	return addr_is_v4(&sent->saddr) ? rewrite_packet(skb, &scratch->packet, undo, 0, false)
					: rewrite_packet(skb, &scratch->packet, undo, 0, true);
}

/*
 * Makes scratch->packet, which came from an LB node with scratch->mark, what the client sent, and
 * opens its flow unless it is open: @found is then set. Returns the drop reason, or the negative
 * zone where the packet goes on.
 */
static __always_inline int dsr_unmark(struct __sk_buff *skb, struct flow **found, __u32 now)
{
	struct scratch *scratch = scratch_get();
	struct flow *flow;
	int zone;

	if (!scratch)
		return DROP_FLOWS_FULL;
	flow = dsr_unmark_find(scratch, now);
	zone = flow ? -ZONE_OVERLAY : dsr_unmark_open(skb);
	if (zone > 0)
		return zone;
	if (dsr_unmark_write(skb))
		return DROP_REWRITE;
	*found = flow;
	return zone;
}
