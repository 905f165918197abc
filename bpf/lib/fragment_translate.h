/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fragments of translated datagrams: each is sent where the flow of the whole leads. */
#pragma once

#include "balance.h"
#include "fragment_hold.h"
#include "translate.h"

/* Of fragment_step(), beside verdicts. The caller goes on, or the stack would get too deep. */
#define FRAGMENT_OPENS (-2)   /* the first of a flow, if a service is asked for */
#define FRAGMENT_TOO_BIG (-3) /* for the device of scratch->forward */

/* Follows the flow of the fragment scratch->packet. Returns the verdict, or VERDICT_NONE. */
static __always_inline int fragment_follow(struct __sk_buff *skb, struct scratch *scratch,
					   struct flow *flow, bool first)
{
	struct packet *packet = &scratch->packet;
	const struct settings *settings = settings_get();
	bool ticked = false;

	packet->service = flow->service;
	if (!translate_permitted(skb, packet, flow))
		return verdict_drop(DROP_SPOOFED);
	if (first) {
		if (packet->key.zone != ZONE_HOST && translate_orphaned(packet, flow)) {
			flow_close(&packet->key, flow);
			return FRAGMENT_OPENS;
		}
		flow = flow_keep(packet, flow, clock_ticks(), &ticked);
		if (!flow)
			return FRAGMENT_OPENS;
	}
	if (packet->key.zone == ZONE_HOST) {
		if (rewrite_fragment(skb, packet, flow, 0, first))
			return verdict_drop(DROP_REWRITE);
		skb->tc_index = OUTPUT_FINISHED;
		return verdict(OUTCOME_TRANSLATED, TC_ACT_UNSPEC);
	}

	if (settings && settings->route_epoch != flow->route_epoch)
		ticked = true;
	if (ticked || !flow->kind) {
		if (route_find(skb, flow))
			return verdict_drop(DROP_NO_ROUTE);
	}
	if (flow->kind == FLOW_L2 && flow->mtu && skb->len - ETH_HLEN > flow->mtu) {
		scratch->forward.mtu = flow->mtu;
		return FRAGMENT_TOO_BIG;
	}
	if (packet->ttl <= 1 && !output_by_stack(flow))
		return verdict_drop(DROP_TTL);
	if (rewrite_fragment(skb, packet, flow, !output_by_stack(flow), first))
		return verdict_drop(rewrite_failure(packet));
	return output_flow(skb, flow, ticked);
}

/*
 * Acts on the fragment scratch->packet. Returns the verdict, FRAGMENT_OPENS, or VERDICT_NONE: it is
 * part of nothing that is translated.
 */
__noinline int fragment_step(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	struct fragment_held *buffer = fragment_buffer();
	struct fragment_key *key;
	struct packet *packet;
	struct flow *flow;
	bool first;

	if (!scratch || !buffer)
		return VERDICT_NONE;
	key = &buffer->key;
	packet = &scratch->packet;
	switch (fragment_read(skb, packet, key)) {
	case FRAGMENT_FIRST:
		if (!fragment_ports(skb, packet))
			return VERDICT_NONE;
		fragment_record(key, packet);
		if (fragment_release(skb, buffer))
			return verdict_drop(DROP_REWRITE);
		first = true;
		break;
	case FRAGMENT_LATER:
		if (!fragment_find(key, packet)) {
			if (fragment_hold(skb, buffer))
				return verdict(OUTCOME_HELD, TC_ACT_SHOT);
			if (!fragment_find(key, packet))
				return VERDICT_NONE;
		}
		first = false;
		break;
	default:
		return VERDICT_NONE;
	}

	flow = flow_find(&packet->key, clock_ticks());
	if (flow)
		return fragment_follow(skb, scratch, flow, first);
	return first ? FRAGMENT_OPENS : VERDICT_NONE;
}

/* Acts on @packet, a fragment, if it is part of a translated datagram. */
static __always_inline int fragment_translate(struct __sk_buff *skb, struct packet *packet)
{
	struct scratch *scratch = scratch_get();
	int done;

	if (!scratch)
		return VERDICT_NONE;
	scratch->packet = *packet;
	done = fragment_step(skb);
	if (done == FRAGMENT_TOO_BIG) {
		done = reject_send(skb, REJECT_TOO_BIG, scratch->forward.mtu);
	} else if (done == FRAGMENT_OPENS) {
		done = VERDICT_NONE;
		if (!endpoint_lookup(&packet->key.daddr) && choose_frontend(&scratch->packet))
			done = balance_first(skb);
	}
	packet->service = scratch->packet.service;
	return done;
}

/* As fragment_translate(), on the hooks where packets leave the host's stack. */
static __always_inline int fragment_from_host(struct __sk_buff *skb, struct packet *packet)
{
	int done;

	if (!scratch_put(packet))
		return VERDICT_NONE;
	done = fragment_step(skb);
	packet->service = scratch_service();
	return done == FRAGMENT_OPENS ? VERDICT_NONE : done;
}
