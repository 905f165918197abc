/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Untranslated traffic with a pod at either end. */
#pragma once

#include "balance.h"
#include "translate.h"

/*
 * A direct connection beside a translated one between the same two ends: its answers would meet the
 * other's flow, so it gets a client port of its own. Returns the tc action, or TRANSLATE_MISS when
 * nobody is in the way.
 */
static __always_inline int pod_keep_apart(struct __sk_buff *skb, const struct packet *packet,
					  enum hook hook, __u8 reverse_zone, __u32 reverse_input,
					  __u32 now, const bool v6)
{
	struct flow_scratch *scratch = flow_scratch();
	struct flow_plan plan = {};
	struct flow_key reverse = {
		.saddr = packet->key.daddr,
		.daddr = packet->key.saddr,
		.sport = packet->key.dport,
		.dport = packet->key.sport,
		.proto = packet->key.proto,
		.zone = reverse_zone,
	};
	int why;

	if (!scratch || !flow_find(&reverse, now))
		return TRANSLATE_MISS;

	plan.saddr = packet->key.saddr;
	plan.daddr = packet->key.daddr;
	plan.dport = packet->key.dport;
	plan.reverse_zone = reverse_zone;
	plan.reverse_input = reverse_input;
	plan.own_address = packet->key.zone == ZONE_HOST;
	__builtin_memset(&scratch->forward, 0, sizeof(scratch->forward));
	scratch->forward.saddr = plan.saddr;
	scratch->forward.daddr = plan.daddr;
	if (packet->key.zone != ZONE_HOST && route_find(skb, &scratch->forward))
		return report_drop(skb, packet, hook, DROP_NO_ROUTE, 0);
	why = flow_open(skb, packet, &plan, now);
	if (why != OUTCOME_TRANSLATED)
		return report_drop(skb, packet, hook, why, 0);
	if (packet->key.zone == ZONE_HOST) {
		if (rewrite_packet(skb, packet, &scratch->forward, 0, v6))
			return report_drop(skb, packet, hook, DROP_REWRITE, 0);
		return report(skb, packet, hook, OUTCOME_TRANSLATED, 0, TC_ACT_OK);
	}
	if (rewrite_packet(skb, packet, &scratch->forward, scratch->forward.kind != FLOW_STACK, v6))
		return report_drop(skb, packet, hook, DROP_REWRITE, 0);
	return output_flow(skb, packet, hook, &scratch->forward, true);
}

/* Delivers an untranslated packet to the pod behind @endpoint. */
static __always_inline int pod_deliver(struct __sk_buff *skb, const struct packet *packet,
				       enum hook hook, const struct endpoint *endpoint,
				       const bool v6)
{
	/* The stack delivers, or tells the sender that the TTL ran out. */
	if (!CONFIG.bpf_host_routing || packet->ttl <= 1)
		return report(skb, packet, hook, OUTCOME_STACK, 0, TC_ACT_OK);
	if (rewrite_hop(skb, v6) || rewrite_macs(skb, endpoint->mac, endpoint->host_mac))
		return report_drop(skb, packet, hook, DROP_REWRITE, 0);
	return report(skb, packet, hook, OUTCOME_LOCAL, 0, bpf_redirect_peer(endpoint->ifindex, 0));
}
