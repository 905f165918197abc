/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How long a flow lives, from what its two sides have sent.
 *
 * There is no window check: a translation that outlives its connection by seconds harms nobody.
 * src/datapath/aging.rs applies the same rules to what no packet visits any more.
 */
#pragma once

#include "config.h"
#include "packet.h"

static __always_inline __u8 flow_tcp_bits(const struct packet *packet)
{
	__u8 bits = 0;

	if (packet->key.proto != IPPROTO_TCP)
		return 0;
	bits |= packet->tcp_flags & TCP_FLAG_SYN ? FLOW_TCP_SYN : FLOW_TCP_ACK;
	if (packet->tcp_flags & TCP_FLAG_FIN)
		bits |= FLOW_TCP_FIN;
	if (packet->tcp_flags & TCP_FLAG_RST)
		bits |= FLOW_TCP_RST;
	return bits;
}

/* Whether packets of @flow go to a backend's node that answers by itself. */
static __always_inline bool flow_is_dispatched(const struct flow *flow)
{
	return (flow->flags & (FLOW_DSR | FLOW_REPLY)) == FLOW_DSR;
}

/* Both sides have said FIN, or one said RST; of FLOW_DSR only one side is heard. */
static __always_inline bool flow_closing(const struct flow *flow)
{
	if ((flow->flags & FLOW_DSR) && ((flow->tcp_own | flow->tcp_peer) & FLOW_TCP_FIN))
		return true;
	return ((flow->tcp_own | flow->tcp_peer) & FLOW_TCP_RST) ||
	       (flow->tcp_own & flow->tcp_peer & FLOW_TCP_FIN);
}

/* In ticks. */
static __always_inline __u32 flow_timeout(const struct flow *flow, __u8 proto)
{
	if (proto != IPPROTO_TCP)
		return flow->replied ? CONFIG.udp_stream_timeout : CONFIG.udp_unreplied_timeout;
	if (flow_closing(flow))
		return CONFIG.tcp_closing_timeout;
	if (flow->flags & (FLOW_NEW | FLOW_UNPROVEN))
		return CONFIG.tcp_syn_timeout;
	return CONFIG.tcp_established_timeout;
}

/* An expired entry is a miss, whether or not it has been collected. */
static __always_inline bool flow_expired(const struct flow *flow, __u8 proto, __u32 now)
{
	__u32 idle = now - flow->last_seen;

	/* Another CPU may have stamped it a tick ahead of our clock read. */
	return idle > flow_timeout(flow, proto) && (__s32)idle > 0;
}
