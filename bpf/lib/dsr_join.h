/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A router that has several nodes for an address sends a connection through another one at times,
 * and that may be the backend's own: it was one end of direct server return and is the LB node
 * now, or the other way round. The pod must not notice.
 */
#pragma once

#include "dsr_alias.h"
#include "dsr_room.h"
#include "flow_table.h"

/* Beside verdicts: the packet is what the client sent, and another node has chosen its backend. */
#define DSR_TAKEN (VERDICT_NONE - 1)

/*
 * Whether @packet's connection, which the client sends as @original, came here as to an LB node
 * before, and went to the backend at @addr and @port on this node.
 */
static __always_inline bool dsr_is_own(const struct packet *packet, const struct flow_key *original,
				       const struct addr *addr, __be16 port, __u32 now)
{
	struct flow_key key = *original;
	const struct flow *flow;

	key.zone = ZONE_WIRE;
	flow = flow_find(&key, now);
	return flow && flow->partner_zone != ZONE_WIRE && flow->dport == port &&
	       addr_equal(&flow->daddr, addr) && !(packet_opens(packet) && flow_closing(flow));
}

/*
 * What translates the answers in scratch->packet's connection, where that has reached its backend
 * already, under scratch->reverse_key, or NULL.
 */
static __always_inline const struct flow *dsr_join_reply(struct scratch *scratch, __u32 now)
{
	const struct packet *packet = &scratch->packet;
	struct flow_plan *plan = &scratch->plan;
	struct flow_key key = packet->key;
	const struct flow *lead, *reply;

	key.zone = ZONE_OVERLAY;
	lead = flow_find(&key, now);
	scratch->reverse_key = (struct flow_key){
		.saddr = lead ? lead->daddr : plan->daddr,
		.daddr = packet->key.saddr,
		.sport = lead ? lead->dport : plan->dport,
		.dport = lead ? lead->sport : packet->key.sport,
		.proto = packet->key.proto,
		.zone = lead ? lead->partner_zone : plan->reverse_zone,
	};
	reply = flow_find(&scratch->reverse_key, now);
	if (!reply || !dsr_ends_here(reply) || flow_closing(reply) ||
	    !flow_answers(&packet->key, reply))
		return NULL;
	return reply;
}

/*
 * Leads scratch->packet, whose backend is planned and on this node, to the connection that another
 * LB node has brought there, if there is one; scratch->forward is then the entry to act on. Returns
 * whether it did.
 */
__noinline int dsr_join(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const __u32 now = clock_ticks();
	const struct flow *reply;
	struct flow *forward;
	struct flow_key key;

	if (!scratch)
		return false;
	reply = dsr_join_reply(scratch, now);
	if (!reply)
		return false;
	forward = &scratch->forward;
	key = scratch->packet.key;
	__builtin_memset(forward, 0, sizeof(*forward));
	forward->saddr = key.saddr;
	forward->daddr = scratch->reverse_key.saddr;
	forward->sport = scratch->reverse_key.dport;
	forward->dport = scratch->reverse_key.sport;
	forward->service = scratch->plan.service;
	forward->target = flow_connection(&key.daddr, key.dport, key.sport);
	forward->partner_zone = scratch->reverse_key.zone;
	forward->flags = FLOW_DSR_ALIAS | (reply->flags & FLOW_NEW);
	return !dsr_alias_store(skb, scratch, &key, now);
}
