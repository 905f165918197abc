/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Carries out a flow's rewrite on one fragment of a datagram. */
#pragma once

#include "outcome.h"
#include "rewrite.h"

/* Why a fragment could not be rewritten. */
static __always_inline enum outcome rewrite_failure(const struct packet *packet)
{
	return packet->key.proto == IPPROTO_SCTP ? DROP_PROTOCOL : DROP_REWRITE;
}

/*
 * Carries out @flow's rewrite on a fragment, whose L4 header, if it is the @first, may lie behind a
 * fragment header. The L4 checksum is over the whole datagram and changes as that of a whole one.
 * Returns 0, or -1.
 */
static __noinline int rewrite_fragment(struct __sk_buff *skb, const struct packet *packet,
				       const struct flow *flow, __u8 hop, bool first)
{
	const bool v6 = !addr_is_v4(&packet->key.saddr);

	if (first) {
		const __be16 ports[2] = {flow->sport, flow->dport};

		/* A CRC is over bytes that are not here. */
		if (packet->key.proto == IPPROTO_SCTP &&
		    (ports[0] != packet->key.sport || ports[1] != packet->key.dport))
			return -1;
		if (bpf_skb_store_bytes(skb, packet->l4_off, ports, sizeof(ports), 0) ||
		    rewrite_checksums(skb, packet, flow))
			return -1;
	}
	if (v6) {
		if (bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr),
					&flow->saddr, 2 * sizeof(struct addr), 0))
			return -1;
		bpf_csum_update(skb, flow->addr_diff); /* as in rewrite_packet */
		return hop ? rewrite_hop(skb, true) : 0;
	}
	{
		const __be32 ends[2] = {flow->saddr.w[3], flow->daddr.w[3]};

		if (bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), ends,
					sizeof(ends), 0) ||
		    bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), 0,
					flow->addr_diff, 0))
			return -1;
	}
	return hop ? rewrite_hop(skb, false) : 0;
}
