/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sends a packet on: into a pod, out of a device, or up the stack. */
#pragma once

#include "report.h"
#include "rewrite.h"
#include "route.h"

/*
 * In skb->tc_index of packets that are finished: a redirect to a device, or the stack on its way to
 * one, runs egress programs, which must leave them alone. Not skb->mark, which belongs to the
 * host's firewall.
 */
#define OUTPUT_FINISHED 0xcb1e

static __always_inline bool output_is_finished(const struct __sk_buff *skb)
{
	return skb->tc_index == OUTPUT_FINISHED;
}

/* A wire between two namespaces carries the mark over: at the other end it says nothing. */
static __always_inline void output_forget(struct __sk_buff *skb)
{
	if (output_is_finished(skb))
		skb->tc_index = 0;
}

/*
 * Whether the stack sends what carries @flow's rewrite. With legacy routing it does, except where
 * the new source is an address of the node or of a service: coming in, that is a martian.
 */
static __always_inline bool output_by_stack(const struct flow *flow)
{
	if (flow->kind == FLOW_STACK)
		return true;
	return !CONFIG.bpf_host_routing && !(flow->flags & (FLOW_REPLY | FLOW_OWN_SOURCE));
}

static __always_inline int output_local(struct __sk_buff *skb, __u32 ifindex, const __u8 *dmac,
					const __u8 *smac)
{
	if (rewrite_macs(skb, dmac, smac))
		return verdict_drop(DROP_REWRITE);
	return verdict(OUTCOME_LOCAL, bpf_redirect_peer(ifindex, 0));
}

/* Whether one packet on the wire, a segment of a GSO skb, exceeds @mtu. */
static __always_inline bool output_too_big(const struct __sk_buff *skb, const struct packet *packet,
					   __u32 mtu)
{
	__u8 words = sizeof(struct udphdr) / 4 << 4;
	__u32 segment;

	if (skb->len - ETH_HLEN <= mtu)
		return false;
	segment = skb->gso_size;
	/* Read once: the verifier refuses the arithmetic that a second read invites. */
	barrier_var(segment);
	if (!segment)
		return true;
	if (packet->key.proto == IPPROTO_TCP &&
	    bpf_skb_load_bytes(skb, packet->l4_off + TCP_WORDS_OFFSET, &words, sizeof(words)))
		return true;
	return segment + packet->l4_off - ETH_HLEN + (words >> 4) * 4 > mtu;
}

/*
 * Sends a packet that carries @flow's rewrite. @exercise: once a tick the kernel's own neighbour
 * code sends, or an entry that is only ever read would go stale and be collected.
 */
static __always_inline int output_flow(struct __sk_buff *skb, const struct flow *flow,
				       bool exercise)
{
	skb->tc_index = OUTPUT_FINISHED;
	if (output_by_stack(flow))
		return verdict(OUTCOME_TRANSLATED, TC_ACT_UNSPEC);
	if (flow->kind == FLOW_LOCAL)
		return output_local(skb, flow->ifindex, flow->l2.dmac, flow->l2.smac);
	if (exercise || (flow->flags & FLOW_NO_MAC))
		return verdict(OUTCOME_FORWARDED, bpf_redirect_neigh(flow->ifindex, NULL, 0, 0));
	if (rewrite_macs(skb, flow->l2.dmac, flow->l2.smac))
		return verdict_drop(DROP_REWRITE);
	return verdict(OUTCOME_FORWARDED, bpf_redirect(flow->ifindex, 0));
}
