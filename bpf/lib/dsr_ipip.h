/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Direct server return by IPIP and IP6IP6 (RFC 2003, RFC 2473): the packet travels as it came, in a
 * packet to the backend.
 *
 * The backend's port is in the outer header: IPv4's identification, which nothing else uses where
 * fragmenting is forbidden (RFC 6864), and the lower 16 bits of IPv6's flow label.
 */
#pragma once

#include "dsr_option.h"
#include "flow.h"
#include "rewrite.h"

#define IP_DONT_FRAGMENT 0x4000

/* The outer IPv4 header of what @flow sends. @total: its length; @from: the inner destination. */
static __always_inline void dsr_outer_v4(struct iphdr *outer, const struct flow *flow, __u16 total,
					 __be32 from)
{
	const struct settings *settings = settings_get();
	const __be32 own = settings ? settings->dsr_source_v4.w[3] : 0;

	*(__u8 *)outer = 0x45;
	outer->tos = 0;
	outer->tot_len = bpf_htons(total);
	outer->id = flow->dport;
	outer->frag_off = bpf_htons(IP_DONT_FRAGMENT);
	outer->ttl = DSR_OUTER_TTL;
	outer->protocol = IPPROTO_IPIP;
	outer->check = 0;
	outer->saddr = own ? own : from;
	outer->daddr = flow->daddr.w[3];
}

static __always_inline __u16 dsr_sum_v4(const struct iphdr *ip)
{
	const __u16 *words = (const void *)ip;
	__u32 sum = 0;

	for (int i = 0; i < 10; i++)
		sum += words[i];
	return ~rewrite_fold(sum);
}

static __always_inline void dsr_outer_v6(struct ipv6hdr *outer, const struct flow *flow,
					 __u16 payload, const struct addr *from)
{
	const struct settings *settings = settings_get();
	struct addr own = {};

	*(__be32 *)outer = bpf_htonl(6u << 28 | bpf_ntohs(flow->dport));
	outer->payload_len = bpf_htons(payload);
	outer->nexthdr = IPPROTO_IPV6;
	outer->hop_limit = DSR_OUTER_TTL;
	if (settings)
		own = settings->dsr_source_v6;
	if (addr_is_zero(&own))
		own = *from;
	__builtin_memcpy(&outer->saddr, &own, sizeof(outer->saddr));
	__builtin_memcpy(&outer->daddr, &flow->daddr, sizeof(outer->daddr));
}
