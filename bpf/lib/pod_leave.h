/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What only a pod's own packets need: the check of their source, and the way out of the node. */
#pragma once

#include "output.h"

enum pod_source {
	POD_SOURCE_OWN,	 /* an address of the pod */
	POD_SOURCE_LINK, /* link-local or unspecified: talks to its link only */
	POD_SOURCE_FOREIGN,
};

static __always_inline enum pod_source pod_source(const struct __sk_buff *skb,
						  const struct packet *packet)
{
	const struct addr *source = &packet->key.saddr;
	const struct endpoint *endpoint = endpoint_lookup(source);

	if (endpoint)
		return endpoint->ifindex == skb->ifindex ? POD_SOURCE_OWN : POD_SOURCE_FOREIGN;
	/* :: probes for duplicates, fe80::/10 does neighbour discovery, 0.0.0.0 asks for a lease.
	 */
	if (addr_is_v4(source))
		return source->w[3] ? POD_SOURCE_FOREIGN : POD_SOURCE_LINK;
	if (addr_is_zero(source) || addr_is_link_local(source))
		return POD_SOURCE_LINK;
	return POD_SOURCE_FOREIGN;
}

static __always_inline bool pod_is_multicast(const struct addr *addr)
{
	if (!addr_is_v4(addr))
		return (addr->w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
	return (addr->w[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) ||
	       addr->w[3] == 0xffffffff;
}

/* Routes an untranslated packet out of the node, or leaves it to the stack. Returns the verdict. */
static __noinline int pod_route(struct __sk_buff *skb, const struct packet *packet)
{
	const bool v6 = !addr_is_v4(&packet->key.daddr);
	struct bpf_fib_lookup fib = {};
	struct bpf_redir_neigh next = {};

	if (!CONFIG.bpf_host_routing || packet->ttl <= 1)
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);

	fib.ifindex = skb->ifindex;
	fib.family = v6 ? AF_INET6 : AF_INET;
	if (v6) {
		__builtin_memcpy(fib.ipv6_src, &packet->key.saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &packet->key.daddr, sizeof(fib.ipv6_dst));
	} else {
		fib.ipv4_src = packet->key.saddr.w[3];
		fib.ipv4_dst = packet->key.daddr.w[3];
	}

	switch (bpf_fib_lookup(skb, &fib, sizeof(fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		break;
	default:
		/* The stack delivers it to the host, or tells the pod why it cannot be sent. */
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
	}

	next.nh_family = fib.family;
	__builtin_memcpy(next.ipv6_nh, fib.ipv6_dst, sizeof(next.ipv6_nh));
	if (v6 ? rewrite_hop(skb, true) : rewrite_hop(skb, false))
		return verdict_drop(DROP_REWRITE);
	skb->tc_index = OUTPUT_FINISHED;
	return verdict(OUTCOME_FORWARDED, bpf_redirect_neigh(fib.ifindex, &next, sizeof(next), 0));
}
