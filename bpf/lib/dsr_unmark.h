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
 * Opens the flow of scratch->packet, which came from an LB node with scratch->mark, unless it is
 * open, and makes the packet what the client sent. Returns the drop reason, or the negative zone
 * where the packet goes on.
 */
__noinline int dsr_unmark(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const struct endpoint *endpoint;
	struct flow_key sent;
	struct flow *flow;
	__u8 zone = ZONE_OVERLAY;
	int why;

	if (!scratch)
		return DROP_FLOWS_FULL;
	sent = scratch->packet.key;
	scratch->packet.key = dsr_original(&sent, &scratch->mark);
	flow = flow_find(&scratch->packet.key, clock_ticks());
	if (flow && !dsr_belongs(&scratch->packet, flow, &sent)) {
		flow_close(&scratch->packet.key, flow);
		flow = NULL;
	}
	if (!flow && dsr_is_own(&scratch->packet, &scratch->packet.key, &sent.daddr, sent.dport,
				clock_ticks())) {
		zone = ZONE_WIRE;
	} else if (!flow) {
		endpoint = endpoint_lookup(&sent.daddr);
		scratch->plan = (struct flow_plan){
			.saddr = sent.saddr,
			.daddr = sent.daddr,
			.dport = sent.dport,
			.service = dsr_service_id(&scratch->mark, sent.proto),
			.reverse_zone = endpoint ? ZONE_POD : ZONE_HOST,
			.reverse_input = endpoint ? endpoint->ifindex : 0,
		};
		__builtin_memset(&scratch->forward, 0, sizeof(scratch->forward));
		scratch->forward.saddr = sent.saddr;
		scratch->forward.daddr = sent.daddr;
		if (route_find(skb, &scratch->forward))
			return DROP_NO_ROUTE;
		why = flow_open(skb);
		if (why)
			return why;
	}

	scratch->reverse.saddr = scratch->packet.key.saddr;
	scratch->reverse.daddr = scratch->packet.key.daddr;
	scratch->reverse.sport = scratch->packet.key.sport;
	scratch->reverse.dport = scratch->packet.key.dport;
	rewrite_prepare(&sent, &scratch->reverse);
	scratch->packet.key = sent;
	if (addr_is_v4(&sent.saddr)
		    ? rewrite_packet(skb, &scratch->packet, &scratch->reverse, 0, false)
		    : rewrite_packet(skb, &scratch->packet, &scratch->reverse, 0, true))
		return DROP_REWRITE;
	return -zone;
}
