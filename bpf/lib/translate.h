/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The hit path: a packet that has a flow, on the hooks where packets come in. */
#pragma once

#include "flow_table.h"
#include "output.h"
#include "reject.h"
#include "service.h"

/* The packet has no flow that may be used: the caller goes on as for a first packet. */
#define TRANSLATE_MISS (-1)

/*
 * Whether what the flow was sent to has left. Established TCP goes on, as it does behind
 * kube-proxy: a pod that left its service but lives keeps its connections. Datagrams choose anew at
 * once.
 */
static __always_inline bool translate_orphaned(const struct packet *packet, const struct flow *flow)
{
	if ((flow->flags & FLOW_REPLY) || !flow->target)
		return false;
	if (target_alive(flow->target, flow->target_epoch))
		return false;
	return packet->key.proto != IPPROTO_TCP || !flow->tcp_peer;
}

/* Acts on @packet if it has a flow, else returns TRANSLATE_MISS. */
static __always_inline int translate(struct __sk_buff *skb, const struct packet *packet,
				     enum hook hook, __u32 now, const bool v6)
{
	const struct settings *settings = settings_get();
	struct flow *flow;
	bool ticked;

	flow = flow_find(&packet->key, now);
	if (!flow)
		return TRANSLATE_MISS;
	if (flow->in_ifindex && flow->in_ifindex != skb->ifindex)
		return report_drop(skb, packet, hook, DROP_SPOOFED, flow->service);
	if (translate_orphaned(packet, flow)) {
		flow_close(&packet->key, flow);
		return TRANSLATE_MISS;
	}
	flow = flow_keep(packet, flow, now, &ticked);
	if (!flow)
		return TRANSLATE_MISS;

	if (ticked || !flow->kind || (flow->flags & FLOW_NO_MAC) ||
	    (settings && settings->route_epoch != flow->route_epoch)) {
		if (route_find(skb, flow))
			return report_drop(skb, packet, hook, DROP_NO_ROUTE, flow->service);
	}
	if (flow->kind == FLOW_L2 && flow->mtu && output_too_big(skb, packet, flow->mtu))
		return reject(skb, packet, hook, REJECT_TOO_BIG, flow->mtu, flow->service, v6);
	if (packet->ttl <= 1 && flow->kind != FLOW_STACK)
		return reject(skb, packet, hook, REJECT_TTL_EXPIRED, 0, flow->service, v6);
	if (rewrite_packet(skb, packet, flow, flow->kind != FLOW_STACK, v6))
		return report_drop(skb, packet, hook, DROP_REWRITE, flow->service);
	return output_flow(skb, packet, hook, flow, ticked);
}

/*
 * The hooks where packets leave the host's stack: the rewrite alone, the way is the stack's.
 * Returns TC_ACT_OK or a drop.
 */
static __always_inline int translate_from_host(struct __sk_buff *skb, const struct packet *packet,
					       enum hook hook, __u32 now, const bool v6)
{
	struct flow *flow;
	bool ticked;

	flow = flow_find(&packet->key, now);
	if (!flow)
		return TRANSLATE_MISS;
	flow = flow_keep(packet, flow, now, &ticked);
	if (!flow)
		return TRANSLATE_MISS;
	if (rewrite_packet(skb, packet, flow, 0, v6))
		return report_drop(skb, packet, hook, DROP_REWRITE, flow->service);
	return report(skb, packet, hook, OUTCOME_TRANSLATED, flow->service, TC_ACT_OK);
}
