/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The LB node's part of direct server return: packets of a FLOW_DSR flow on their way to the
 * backend's node.
 */
#pragma once

#include "dsr_insert.h"
#include "dsr_ipip.h"
#include "flow_table.h"
#include "mss.h"
#include "output.h"
#include "reject.h"

/* Only what comes from the wire is dispatched: bpf_host defines this as 1 before it includes. */
#ifndef DSR_SENDS
#define DSR_SENDS 0
#endif

/*
 * The segments of a connection must have room for what dispatching adds. Called for the SYN, on the
 * LB node, and for its answer, on the backend's; @mtu is 0 where it is not known.
 */
static __always_inline void dsr_clamp(struct __sk_buff *skb, __u32 l4_off, __u32 mtu, const bool v6)
{
	const __u32 taken = dsr_overhead(v6) + (v6 ? DSR_TCP_V6 : DSR_TCP_V4);

	if (mtu > taken + DSR_MSS_MIN)
		mss_clamp(skb, l4_off, mtu - taken);
}

/* Whether @flow carries answers to requests that were dispatched to this node. */
static __always_inline bool dsr_ends_here(const struct flow *flow)
{
	return (flow->flags & FLOW_REPLY) &&
	       ((flow->flags & FLOW_DSR_END) || flow->partner_zone == ZONE_OVERLAY);
}

/* What becomes of FLOW_OPTION when a packet that carried the option has gone. */
static __always_inline bool dsr_unconfirmed(const struct packet *packet, const struct flow *flow,
					    __u32 now)
{
	/* Who acknowledges a SYN has had an answer, so the backend's node knows. */
	if (packet->key.proto == IPPROTO_TCP && (flow->tcp_own & FLOW_TCP_SYN))
		return packet->tcp_flags & TCP_FLAG_SYN;
	return flow->created == now;
}

/* What the egress device leaves for a packet that is to be dispatched, or 0: it is not known. */
static __always_inline __u32 dsr_mtu(const struct packet *packet, const struct flow *flow)
{
	const bool v4 = addr_is_v4(&packet->key.saddr);

	return flow->mtu ? flow->mtu - (v4 ? dsr_overhead(false) : dsr_overhead(true)) : 0;
}

static __always_inline bool dsr_fits(const struct __sk_buff *skb, const struct packet *packet,
				     const struct flow *flow)
{
	const __u32 mtu = dsr_mtu(packet, flow);

	return !mtu || !output_too_big(skb, packet, mtu);
}

/*
 * Sends scratch->packet, with the option, as scratch->forward says. @ticked: as in output_flow().
 * Returns the verdict.
 */
__noinline int dsr_send_marked(struct __sk_buff *skb, __u32 ticked)
{
	struct scratch *scratch = scratch_get();
	const struct packet *packet;
	struct flow_key *key;
	struct flow *flow;
	__u32 l4_off;
	bool v4, fits;

	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	packet = &scratch->packet;
	flow = &scratch->forward;
	v4 = addr_is_v4(&packet->key.saddr);
	l4_off = packet->l4_off;
	fits = dsr_fits(skb, packet, flow);
	scratch->mark.vip = packet->key.daddr;
	scratch->mark.port = packet->key.dport;
	scratch->mark.client_port = packet->key.sport;
	key = &scratch->reverse_key;
	*key = packet->key;
	key->daddr = flow->daddr;
	key->sport = flow->sport;
	key->dport = flow->dport;

	if (v4 ? rewrite_packet(skb, packet, flow, !output_by_stack(flow), false)
	       : rewrite_packet(skb, packet, flow, !output_by_stack(flow), true))
		return verdict_drop(DROP_REWRITE);
	if (packet->tcp_flags & TCP_FLAG_SYN) {
		if (v4)
			dsr_clamp(skb, l4_off, flow->mtu, false);
		else
			dsr_clamp(skb, l4_off, flow->mtu, true);
	}
	if (!fits || (v4 && !dsr_has_room(packet, false))) {
		int decided = output_flow(skb, flow, ticked);

		flow->flags |= FLOW_OPTION;
		return decided >= DROP_FIRST << 8 ? decided : verdict(OUTCOME_NO_ROOM, decided);
	}
	if (v4 ? dsr_insert_v4(skb, key, &scratch->mark) : dsr_insert_v6(skb, key, &scratch->mark))
		return verdict_drop(DROP_REWRITE);
	flow->told = 1;
	if (dsr_unconfirmed(packet, flow, clock_ticks()))
		flow->flags |= FLOW_OPTION;
	else
		flow->flags &= ~FLOW_OPTION;
	return output_flow(skb, flow, ticked);
}

/* Puts scratch->packet, as it came, into one to scratch->forward's backend. Returns the verdict. */
__noinline int dsr_send_wrapped(struct __sk_buff *skb, __u32 ticked)
{
	struct scratch *scratch = scratch_get();
	struct flow *flow;
	__be16 length;

	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	flow = &scratch->forward;
	flow->told = 1;
	flow->flags &= ~FLOW_OPTION;
	if (addr_is_v4(&scratch->packet.key.saddr)) {
		struct iphdr outer = {};

		if (scratch->packet.tcp_flags & TCP_FLAG_SYN)
			dsr_clamp(skb, scratch->packet.l4_off, flow->mtu, false);
		if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, tot_len), &length,
				       sizeof(length)))
			return verdict_drop(DROP_REWRITE);
		dsr_outer_v4(&outer, flow, bpf_ntohs(length) + sizeof(outer),
			     scratch->packet.key.daddr.w[3]);
		outer.check = dsr_sum_v4(&outer);
		if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
					BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_FIXED_GSO) ||
		    bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0))
			return verdict_drop(DROP_REWRITE);
	} else {
		struct ipv6hdr outer = {};

		if (scratch->packet.tcp_flags & TCP_FLAG_SYN)
			dsr_clamp(skb, scratch->packet.l4_off, flow->mtu, true);
		if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, payload_len),
				       &length, sizeof(length)))
			return verdict_drop(DROP_REWRITE);
		dsr_outer_v6(&outer, flow, bpf_ntohs(length) + sizeof(outer),
			     &scratch->packet.key.daddr);
		if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
					BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO) ||
		    bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), BPF_F_RECOMPUTE_CSUM))
			return verdict_drop(DROP_REWRITE);
	}
	return output_flow(skb, flow, ticked);
}

static __always_inline int dsr_send_now(struct __sk_buff *skb, __u32 ticked)
{
	return CONFIG.dsr_dispatch == DSR_IPIP ? dsr_send_wrapped(skb, ticked)
					       : dsr_send_marked(skb, ticked);
}

/* Keeps in @flow what sending its copy in scratch->forward has changed. */
static __always_inline void dsr_note(struct flow *flow, const struct flow *sent)
{
	flow->told = sent->told;
	if (sent->flags & FLOW_OPTION)
		flow->flags |= FLOW_OPTION;
	else
		flow->flags &= ~FLOW_OPTION;
}

/* Sends scratch->packet, whose flow has just been opened. Returns the verdict. */
static __always_inline int dsr_send_first(struct __sk_buff *skb)
{
	const struct scratch *scratch = scratch_get();
	struct flow *flow;
	int decided;

	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	if (!dsr_fits(skb, &scratch->packet, &scratch->forward)) {
		/* What comes next may be fragments, which cannot open a flow of this kind. */
		flow_close(&scratch->packet.key, &scratch->forward);
		return reject_send(skb, REJECT_TOO_BIG,
				   dsr_mtu(&scratch->packet, &scratch->forward));
	}
	decided = dsr_send_now(skb, true);
	if (decided == verdict_drop(DROP_REWRITE)) {
		flow_close(&scratch->packet.key, &scratch->forward);
		return decided;
	}
	flow = bpf_map_lookup_elem(&flows_new, &scratch->packet.key);
	if (flow)
		dsr_note(flow, &scratch->forward);
	return decided;
}

/*
 * Sends @packet, which @flow was found for, if it must carry the option now. Returns the verdict,
 * or VERDICT_NONE: the flow's rewrite is all it needs.
 */
static __always_inline int dsr_send(struct __sk_buff *skb, const struct packet *packet,
				    struct flow *flow, bool ticked)
{
	struct scratch *scratch;
	int decided;

	if (CONFIG.dsr_dispatch == DSR_OPTION && !ticked && !(flow->flags & FLOW_OPTION) &&
	    !(packet->tcp_flags & TCP_FLAG_SYN) &&
	    !(CONFIG.dsr_plain_out && packet->key.proto != IPPROTO_TCP))
		return VERDICT_NONE;
	scratch = scratch_get();
	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	scratch->packet = *packet;
	scratch->forward = *flow;
	/* The backend's node must be told once; to remind it, a smaller packet will do. */
	if ((!flow->told || CONFIG.dsr_dispatch != DSR_OPTION) && !dsr_fits(skb, packet, flow))
		return reject_send(skb, REJECT_TOO_BIG, dsr_mtu(packet, flow));
	decided = dsr_send_now(skb, ticked);
	dsr_note(flow, &scratch->forward);
	return decided;
}
