/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The hit path: a packet that has a flow, on the hooks where packets come in. */
#pragma once

#include "dsr_expired.h"
#include "dsr_send.h"
#include "flow_keep.h"
#include "output.h"
#include "reject.h"
#include "service.h"

/*
 * Whether what the flow was sent to has left. What is established goes on, as it does behind
 * kube-proxy: a pod that left its service but lives keeps its connections. Datagrams choose anew at
 * once.
 */
static __always_inline bool translate_orphaned(const struct packet *packet, const struct flow *flow)
{
	if ((flow->flags & (FLOW_REPLY | FLOW_DSR_ALIAS)) || !flow->target)
		return false;
	if (target_alive(flow->target, flow->target_epoch))
		return false;
	if (packet->key.proto == IPPROTO_TCP)
		return !flow->tcp_peer && !(flow->told && (flow->tcp_own & FLOW_TCP_ACK));
	return packet->key.proto != IPPROTO_SCTP || !flow->replied;
}

/*
 * Whether @skb comes from the pod that @flow belongs to. A pod that was made anew under its address
 * has another device: it inherits the flow, and ends it if it knows nothing of it.
 */
static __always_inline bool translate_permitted(const struct __sk_buff *skb,
						const struct packet *packet, struct flow *flow)
{
	const struct endpoint *endpoint;

	if (!flow->in_ifindex || flow->in_ifindex == skb->ifindex)
		return true;
	endpoint = endpoint_lookup(&packet->key.saddr);
	if (!endpoint || endpoint->ifindex != skb->ifindex)
		return false;
	flow->in_ifindex = skb->ifindex;
	return true;
}

/* Whether a packet of @flow is dispatched here. */
static __always_inline bool translate_dispatches(const struct flow *flow)
{
	return FROM_WIRE && CONFIG.dsr_dispatch && flow_is_dispatched(flow);
}

/* What a sender is told that exceeds @flow's MTU: once, with what dispatching adds. */
static __always_inline __u32 translate_mtu(const struct flow *flow, const bool v6)
{
	return flow->mtu - (translate_dispatches(flow) ? dsr_overhead(v6) : 0);
}

/* The verdict on @packet, which has no flow. */
static __always_inline int translate_unknown(const struct packet *packet, __u32 now)
{
	return handover_withholds(packet, now) ? verdict_drop(DROP_HANDOVER) : VERDICT_NONE;
}

/*
 * Acts on @packet if it has a flow: @flow, if that has been found already. Returns the verdict, or
 * VERDICT_NONE when it has none that may be used: the caller goes on as for a first packet.
 */
static __always_inline int translate(struct __sk_buff *skb, struct packet *packet,
				     struct flow *flow, __u32 now, const bool v6)
{
	const struct settings *settings = settings_get();
	bool ticked;

	if (!flow)
		flow = flow_find(&packet->key, now);
	if (!flow)
		return translate_unknown(packet, now);
	packet->service = flow->service;
	if (!translate_permitted(skb, packet, flow))
		return verdict_drop(DROP_SPOOFED);
	if (translate_orphaned(packet, flow)) {
		flow_close(&packet->key, flow);
		return VERDICT_NONE;
	}
	flow = flow_keep(packet, flow, now, &ticked);
	if (!flow)
		return VERDICT_NONE;

	/* Where the other direction was first in this tick, it has left an epoch that is over. */
	if (settings && settings->route_epoch != flow->route_epoch)
		ticked = true;
	if (ticked || !flow->kind || (flow->flags & FLOW_NO_MAC)) {
		if (route_find(skb, flow))
			return verdict_drop(DROP_NO_ROUTE);
	}
	if (flow->kind == FLOW_L2 && flow->mtu && output_too_big(skb, packet, flow->mtu))
		return reject(skb, packet, REJECT_TOO_BIG, translate_mtu(flow, v6));
	if (packet->ttl <= 1 && !output_by_stack(flow)) {
		if (FROM_WIRE && CONFIG.dsr_dispatch &&
		    (flow->flags & (FLOW_DSR_END | FLOW_DSR_ALIAS)) && !(flow->flags & FLOW_REPLY))
			return dsr_expired(skb, packet, flow);
		return reject(skb, packet, REJECT_TTL_EXPIRED, 0);
	}
	if (translate_dispatches(flow)) {
		const int sent = dsr_send(skb, packet, flow, ticked);

		if (sent != VERDICT_NONE)
			return sent;
	}
	if (rewrite_packet_as(skb, packet, flow, !output_by_stack(flow), v6,
			      rewrite_is_whole(skb, packet, v6)))
		return verdict_drop(DROP_REWRITE);
	if (CONFIG.dsr_dispatch && (packet->tcp_flags & TCP_FLAG_SYN) && dsr_ends_here(flow))
		dsr_clamp(skb, packet->l4_off, flow->mtu, v6);
	return output_flow(skb, flow, ticked);
}

/*
 * The hooks where packets leave the host's stack: the rewrite alone, the way is the stack's.
 * Returns the verdict or VERDICT_NONE.
 */
static __always_inline int translate_from_host(struct __sk_buff *skb, struct packet *packet,
					       __u32 now, const bool v6)
{
	struct flow *flow;
	bool ticked;

	flow = flow_find(&packet->key, now);
	if (!flow)
		return translate_unknown(packet, now);
	packet->service = flow->service;
	flow = flow_keep(packet, flow, now, &ticked);
	if (!flow)
		return VERDICT_NONE;
	if (rewrite_packet(skb, packet, flow, 0, v6))
		return verdict_drop(DROP_REWRITE);
	/* A device on top of another device has an egress program, and so may the one below. */
	skb->tc_index = OUTPUT_FINISHED;
	return verdict(OUTCOME_TRANSLATED, TC_ACT_UNSPEC);
}
