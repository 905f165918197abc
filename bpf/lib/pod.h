/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Untranslated traffic with a pod at either end. */
#pragma once

#include "balance.h"
#include "translate.h"

/*
 * Gives scratch->packet, which goes where it says, a client port of its own: the answers to the one
 * it has belong to a translated flow. Returns the verdict.
 */
__noinline int pod_separate(struct __sk_buff *skb, __u32 reverse_zone, __u32 reverse_input)
{
	struct scratch *scratch = scratch_get();
	const struct packet *packet;
	int why;

	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	packet = &scratch->packet;
	scratch->plan = (struct flow_plan){
		.saddr = packet->key.saddr,
		.daddr = packet->key.daddr,
		.dport = packet->key.dport,
		.reverse_zone = reverse_zone,
		.reverse_input = reverse_input,
		.own_address = packet->key.zone == ZONE_HOST,
	};
	__builtin_memset(&scratch->forward, 0, sizeof(scratch->forward));
	scratch->forward.saddr = packet->key.saddr;
	scratch->forward.daddr = packet->key.daddr;
	if (packet->key.zone == ZONE_HOST)
		scratch->forward.kind = FLOW_STACK;
	else if (route_find(skb, &scratch->forward))
		return verdict_drop(DROP_NO_ROUTE);
	if (packet->ttl <= 1 && !output_by_stack(&scratch->forward))
		return reject_send(skb, REJECT_TTL_EXPIRED, 0);

	why = flow_open(skb);
	if (why)
		return verdict_drop(why);
	return balance_send(skb, scratch);
}

/*
 * A direct connection beside a translated one between the same two ends: its answers would meet the
 * other's flow. Returns the verdict, or VERDICT_NONE when nobody is in the way.
 */
static __always_inline int pod_keep_apart(struct __sk_buff *skb, const struct packet *packet,
					  __u8 reverse_zone, __u32 reverse_input)
{
	const struct flow_key reverse = {
		.saddr = packet->key.daddr,
		.daddr = packet->key.saddr,
		.sport = packet->key.dport,
		.dport = packet->key.sport,
		.proto = packet->key.proto,
		.zone = reverse_zone,
	};

	if (!packet_opens(packet) || !flow_find(&reverse, clock_ticks()))
		return VERDICT_NONE;
	if (!scratch_put(packet))
		return verdict_drop(DROP_FLOWS_FULL);
	return pod_separate(skb, reverse_zone, reverse_input);
}

/* Delivers an untranslated packet to the pod behind @endpoint. Returns the verdict. */
static __always_inline int pod_deliver(struct __sk_buff *skb, const struct packet *packet,
				       const struct endpoint *endpoint, const bool v6)
{
	/* The stack delivers, or tells the sender that the TTL ran out. */
	if (!CONFIG.bpf_host_routing || packet->ttl <= 1)
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
	if (rewrite_hop(skb, v6) || rewrite_macs(skb, endpoint->mac, endpoint->host_mac))
		return verdict_drop(DROP_REWRITE);
	return verdict(OUTCOME_LOCAL, bpf_redirect_peer(endpoint->ifindex, 0));
}
