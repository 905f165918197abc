/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The LB node's part of direct server return: packets of a FLOW_DSR flow on their way to the
 * backend's node.
 */
#pragma once

#include "dsr_geneve.h"
#include "dsr_insert.h"
#include "dsr_ipip.h"
#include "dsr_room.h"
#include "flow_open.h"
#include "nodes.h"

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
	key = dsr_describe(scratch);

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

/*
 * Sends scratch->packet, as scratch->forward says, through the Geneve device to the node that the
 * backend is on. Returns the verdict.
 */
__noinline int dsr_send_tunnelled(struct __sk_buff *skb)
{
	const struct settings *settings = settings_get();
	struct scratch *scratch = scratch_get();
	const struct packet *packet;
	const struct node *node;
	struct flow_key *key;
	struct flow *flow;
	bool v4;

	if (!scratch || !settings)
		return verdict_drop(DROP_FLOWS_FULL);
	packet = &scratch->packet;
	flow = &scratch->forward;
	node = node_lookup(&flow->daddr);
	if (!node || !settings->geneve_ifindex)
		return verdict_drop(DROP_NO_ROUTE);
	v4 = addr_is_v4(&packet->key.saddr);
	key = dsr_describe(scratch);

	if (packet->tcp_flags & TCP_FLAG_SYN) {
		if (v4)
			dsr_clamp(skb, packet->l4_off, flow->mtu, false);
		else
			dsr_clamp(skb, packet->l4_off, flow->mtu, true);
	}
	if (v4 ? rewrite_packet(skb, packet, flow, 1, false)
	       : rewrite_packet(skb, packet, flow, 1, true))
		return verdict_drop(DROP_REWRITE);
	if (dsr_geneve_to(skb, &node->addr))
		return verdict_drop(DROP_REWRITE);
	if (v4 ? dsr_geneve_option_v4(skb, key, &scratch->mark)
	       : dsr_geneve_option_v6(skb, key, &scratch->mark))
		return verdict_drop(DROP_REWRITE);
	flow->told = 1;
	flow->flags &= ~FLOW_OPTION;
	skb->tc_index = OUTPUT_FINISHED;
	return verdict(OUTCOME_FORWARDED, bpf_redirect(settings->geneve_ifindex, 0));
}

static __always_inline int dsr_send_now(struct __sk_buff *skb, __u32 ticked)
{
	if (CONFIG.dsr_dispatch == DSR_GENEVE)
		return dsr_send_tunnelled(skb);
	return CONFIG.dsr_dispatch == DSR_IPIP ? dsr_send_wrapped(skb, ticked)
					       : dsr_send_marked(skb, ticked);
}

/*
 * Keeps in @flow what sending its copy in scratch->forward has changed. What has not is not stored:
 * that would take the entry's cache line from all other CPUs with every packet.
 */
static __always_inline void dsr_note(struct flow *flow, const struct flow *sent)
{
	if (sent->told && !flow->told)
		flow->told = 1;
	if ((flow->flags ^ sent->flags) & FLOW_OPTION)
		flow->flags ^= FLOW_OPTION;
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

/* Whether @packet is a SYN that comes again: nobody has answered the first. */
static __always_inline bool dsr_unanswered(const struct packet *packet, const struct flow *flow)
{
	return packet->key.proto == IPPROTO_TCP && packet_opens(packet) && flow->told &&
	       flow->created != flow->last_seen && !(flow->tcp_own & FLOW_TCP_ACK);
}

/*
 * Opens the flow of scratch->packet, scratch->forward, anew with another client port: the one it
 * had may be taken at the backend's node, by a connection through another LB node. If it was not,
 * that node knows the client's own port and goes on with it. Returns 0, or -1.
 */
__noinline int dsr_send_anew(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	struct flow *forward;

	if (!scratch)
		return -1;
	forward = &scratch->forward;
	flow_close(&scratch->packet.key, forward);
	scratch->plan = (struct flow_plan){
		.saddr = forward->saddr,
		.daddr = forward->daddr,
		.dport = forward->dport,
		.reverse_zone = ZONE_WIRE,
		.other_port = 1,
		.service = forward->service,
		.target = forward->target,
		.target_epoch = forward->target_epoch,
		.flags = FLOW_DSR | FLOW_OPTION,
	};
	return flow_open(skb) ? -1 : 0;
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

	/* Of datagrams each says whose it is: nothing else keeps two services' apart. */
	if (CONFIG.dsr_dispatch == DSR_OPTION && !ticked && !(flow->flags & FLOW_OPTION) &&
	    !(packet->tcp_flags & TCP_FLAG_SYN) && packet->key.proto == IPPROTO_TCP)
		return VERDICT_NONE;
	scratch = scratch_get();
	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	scratch->packet = *packet;
	scratch->forward = *flow;
	/* The backend's node must be told once; to remind it, a smaller packet will do. */
	if ((!flow->told || CONFIG.dsr_dispatch != DSR_OPTION || dsr_met(packet, flow)) &&
	    !dsr_fits(skb, packet, flow))
		return reject_send(skb, REJECT_TOO_BIG, dsr_mtu(packet, flow));
	/* From a new port that the backend's node must be told. */
	if (CONFIG.dsr_dispatch == DSR_OPTION && !CONFIG.dsr_plain_out &&
	    dsr_unanswered(packet, flow) && dsr_has_room(packet, !addr_is_v4(&packet->key.saddr)))
		return dsr_send_anew(skb) ? verdict_drop(DROP_FLOWS_FULL) : dsr_send_first(skb);
	decided = dsr_send_now(skb, ticked);
	dsr_note(flow, &scratch->forward);
	return decided;
}
