/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The backend's node tells a client that its packet's TTL ends here. The packet came translated:
 * the client recognises only what it sent itself (RFC 792, RFC 4443 section 3.3).
 */
#pragma once

#include "flow_table.h"
#include "reject.h"
#include "rewrite.h"

/*
 * Answers the sender of scratch->packet, for which scratch->forward, a request's, was found.
 * Returns the verdict.
 */
__noinline int dsr_send_expired(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const struct packet *packet;
	const struct flow *forward, *reply;
	struct flow *sent;

	if (!scratch)
		return verdict_drop(DROP_TTL);
	packet = &scratch->packet;
	forward = &scratch->forward;
	sent = &scratch->reverse;
	scratch->reverse_key = (struct flow_key){
		.saddr = forward->daddr,
		.daddr = forward->saddr,
		.sport = forward->dport,
		.dport = forward->sport,
		.proto = packet->key.proto,
		.zone = forward->partner_zone,
	};
	reply = flow_find(&scratch->reverse_key, clock_ticks());
	if (!reply || !(reply->flags & FLOW_DSR_END))
		return verdict_drop(DROP_TTL);
	__builtin_memset(sent, 0, sizeof(*sent));
	sent->saddr = reply->daddr;
	sent->daddr = reply->saddr;
	sent->sport = reply->dport;
	sent->dport = reply->sport;
	rewrite_prepare(&packet->key, sent);
	if (addr_is_v4(&packet->key.saddr) ? rewrite_packet(skb, packet, sent, 0, false)
					   : rewrite_packet(skb, packet, sent, 0, true))
		return verdict_drop(DROP_REWRITE);
	return reject_send(skb, REJECT_TTL_EXPIRED, 0);
}

/* As dsr_send_expired() for @packet and @flow. */
static __always_inline int dsr_expired(struct __sk_buff *skb, const struct packet *packet,
				       const struct flow *flow)
{
	struct scratch *scratch = scratch_get();

	if (!scratch)
		return verdict_drop(DROP_TTL);
	scratch->packet = *packet;
	scratch->forward = *flow;
	return dsr_send_expired(skb);
}
