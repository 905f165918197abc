/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The LB node's part when the path to a backend is too narrow for what IPIP adds: the router tells
 * this node, whose packet it quotes. The client's is in that, and its sender is told (RFC 2003
 * section 4.2, RFC 2473 section 8.1).
 *
 * Routers that quote 8 bytes behind the outer header show nothing of the client.
 */
#pragma once

#include "dsr_option.h"
#include "flow_table.h"
#include "icmp_quote.h"

struct dsr_outer_quote_v4 {
	__be16 type; /* and code */
	__u16 check;
	__be16 unused;
	__be16 mtu;
	struct iphdr outer;
	struct iphdr inner;
	__be16 ports[2];
};

struct dsr_outer_quote_v6 {
	__be16 type;
	__u16 check;
	__be32 mtu;
	struct ipv6hdr outer;
	struct ipv6hdr inner;
	__be16 ports[2];
};

/*
 * Reads the quoted inner packet into scratch->packet, and whom it was sent to in an outer one.
 * Returns the MTU, or 0: it is no such error.
 */
static __always_inline __u32 dsr_outer_v4_read(struct __sk_buff *skb, struct scratch *scratch,
					       struct addr *to)
{
	struct flow_key *key = &scratch->packet.key;
	struct dsr_outer_quote_v4 quote;

	if (scratch->packet.l4_off != ETH_HLEN + sizeof(struct iphdr) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &quote, sizeof(quote)) ||
	    quote.type != bpf_htons(ICMP_QUOTE_TOO_BIG_V4) ||
	    quote.outer.protocol != IPPROTO_IPIP || *(__u8 *)&quote.outer != 0x45 ||
	    *(__u8 *)&quote.inner != 0x45 ||
	    ((quote.outer.frag_off | quote.inner.frag_off) &
	     bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS)))
		return 0;
	addr_set_v4(to, quote.outer.daddr);
	addr_set_v4(&key->saddr, quote.inner.saddr);
	addr_set_v4(&key->daddr, quote.inner.daddr);
	key->sport = quote.ports[0];
	key->dport = quote.ports[1];
	key->proto = quote.inner.protocol;
	return bpf_ntohs(quote.mtu);
}

static __always_inline __u32 dsr_outer_v6_read(struct __sk_buff *skb, struct scratch *scratch,
					       struct addr *to)
{
	struct flow_key *key = &scratch->packet.key;
	struct dsr_outer_quote_v6 quote;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &quote, sizeof(quote)) ||
	    quote.type != bpf_htons(ICMP_QUOTE_TOO_BIG_V6) || quote.outer.nexthdr != IPPROTO_IPV6)
		return 0;
	addr_set_v6(to, quote.outer.daddr.in6_u.u6_addr32);
	addr_set_v6(&key->saddr, quote.inner.saddr.in6_u.u6_addr32);
	addr_set_v6(&key->daddr, quote.inner.daddr.in6_u.u6_addr32);
	key->sport = quote.ports[0];
	key->dport = quote.ports[1];
	key->proto = quote.inner.nexthdr;
	return bpf_ntohl(quote.mtu);
}

/*
 * Leaves of the ICMP error scratch->packet the client's packet that it quotes in one of this
 * node's, as far as it was quoted. Returns the MTU that its sender is to be told, or 0: nothing of
 * ours, and nothing has been changed.
 */
__noinline int dsr_outer_error(struct __sk_buff *skb, bool v6)
{
	const __u32 outer = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	struct scratch *scratch = scratch_get();
	const struct flow *flow;
	struct addr to = {};
	__u32 mtu;
	int err;

	if (!scratch || scratch->packet.key.zone != ZONE_WIRE)
		return 0;
	mtu = v6 ? dsr_outer_v6_read(skb, scratch, &to) : dsr_outer_v4_read(skb, scratch, &to);
	if (mtu <= outer)
		return 0;
	/* Only what this node has sent there: anybody may send errors. */
	flow = flow_find(&scratch->packet.key, clock_ticks());
	if (!flow || !flow_is_dispatched(flow) || !addr_equal(&flow->daddr, &to))
		return 0;
	scratch->packet.service = flow->service;
	scratch->packet.l4_off = ETH_HLEN + outer;
	scratch->packet.fragment = 0;
	err = v6 ? bpf_skb_adjust_room(skb, -(__s32)(2 * sizeof(struct ipv6hdr) + ICMP_QUOTE),
				       BPF_ADJ_ROOM_MAC, 0)
		 : bpf_skb_adjust_room(skb, -(__s32)(2 * sizeof(struct iphdr) + ICMP_QUOTE),
				       BPF_ADJ_ROOM_MAC, 0);
	return err ? 0 : mtu - outer;
}
