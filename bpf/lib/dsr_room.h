/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Direct server return: what a packet must say, and whether it can on the way to the backend. */
#pragma once

#include "dsr_option.h"
#include "flow_table.h"
#include "mss.h"
#include "output.h"
#include "reject.h"

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

/*
 * Whether @flow is of a connection that this node met in its middle. It may have another port at
 * its backend, and the one that it has here may be another's there: each packet says whose it is.
 */
static __always_inline bool dsr_met(const struct packet *packet, const struct flow *flow)
{
	return packet->key.proto == IPPROTO_TCP && !(flow->tcp_own & FLOW_TCP_SYN);
}

/* What becomes of FLOW_OPTION when a packet that carried the option has gone. */
static __always_inline bool dsr_unconfirmed(const struct packet *packet, const struct flow *flow,
					    __u32 now)
{
	/* Who acknowledges a SYN has had an answer, so the backend's node knows. */
	if (packet->key.proto == IPPROTO_TCP)
		return (packet->tcp_flags & TCP_FLAG_SYN) || dsr_met(packet, flow);
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
 * Fills scratch->mark for scratch->packet, and returns, in scratch->reverse_key, the tuple that it
 * has once scratch->forward is carried out.
 */
static __always_inline struct flow_key *dsr_describe(struct scratch *scratch)
{
	const struct packet *packet = &scratch->packet;
	struct flow_key *key = &scratch->reverse_key;

	scratch->mark.vip = packet->key.daddr;
	scratch->mark.port = packet->key.dport;
	scratch->mark.client_port = packet->key.sport;
	*key = packet->key;
	key->daddr = scratch->forward.daddr;
	key->sport = scratch->forward.sport;
	key->dport = scratch->forward.dport;
	return key;
}
