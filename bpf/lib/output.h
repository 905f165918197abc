/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sends a packet on: into a pod, out of a device, or up the stack. */
#pragma once

#include "report.h"
#include "rewrite.h"
#include "route.h"

/*
 * In skb->tc_index of packets that are finished: a redirect to a device runs its egress program,
 * which must leave them alone. Not skb->mark, which belongs to the host's firewall.
 */
#define OUTPUT_FINISHED 0xcb1e

static __always_inline bool output_is_finished(const struct __sk_buff *skb)
{
	return skb->tc_index == OUTPUT_FINISHED;
}

static __always_inline int output_local(struct __sk_buff *skb, __u32 ifindex, const __u8 *dmac,
					const __u8 *smac)
{
	if (!CONFIG.bpf_host_routing)
		return verdict(OUTCOME_TRANSLATED, TC_ACT_OK);
	if (rewrite_macs(skb, dmac, smac))
		return verdict_drop(DROP_REWRITE);
	return verdict(OUTCOME_LOCAL, bpf_redirect_peer(ifindex, 0));
}

/* Whether one packet on the wire, a segment of a GSO skb, exceeds @mtu. */
static __always_inline bool output_too_big(const struct __sk_buff *skb, const struct packet *packet,
					   __u32 mtu)
{
	__u32 length = skb->len - ETH_HLEN;

	if (length <= mtu)
		return false;
	if (!skb->gso_size)
		return true;
	length = skb->gso_size + packet->l4_off - ETH_HLEN +
		 (packet->key.proto == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr));
	return length > mtu;
}

/*
 * Sends a packet that carries @flow's rewrite. @exercise: once a tick the kernel's own neighbour
 * code sends, or an entry that is only ever read would go stale and be collected.
 */
static __always_inline int output_flow(struct __sk_buff *skb, const struct flow *flow,
				       bool exercise)
{
	if (flow->kind == FLOW_LOCAL)
		return output_local(skb, flow->ifindex, flow->l2.dmac, flow->l2.smac);
	if (flow->kind != FLOW_L2 || !CONFIG.bpf_host_routing)
		return verdict(OUTCOME_TRANSLATED, TC_ACT_OK);

	skb->tc_index = OUTPUT_FINISHED;
	if (exercise || (flow->flags & FLOW_NO_MAC))
		return verdict(OUTCOME_FORWARDED, bpf_redirect_neigh(flow->ifindex, NULL, 0, 0));
	if (rewrite_macs(skb, flow->l2.dmac, flow->l2.smac))
		return verdict_drop(DROP_REWRITE);
	return verdict(OUTCOME_FORWARDED, bpf_redirect(flow->ifindex, 0));
}
