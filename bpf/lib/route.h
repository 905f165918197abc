/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a destination lies: a pod here, this host, or a next hop behind a device.
 *
 * The result goes into the flow with the epoch it was found in; it is looked up again when the
 * epoch moved and at least once a tick.
 */
#pragma once

#include "config.h"
#include "endpoint.h"
#include "flow.h"
#include "uplink.h"

/*
 * Fills @flow's output for its destination. Returns 0, or -1 where the routing table refuses it.
 * A neighbour that is not resolved yet leaves FLOW_NO_MAC set, and bpf_redirect_neigh does the
 * rest.
 */
static __noinline int route_find(CTX *ctx, struct flow *flow)
{
	const struct endpoint *endpoint = endpoint_lookup(&flow->daddr);
	const struct settings *settings = settings_get();
	struct bpf_fib_lookup fib = {};
	const struct uplink *uplink;
	long err;

	if (settings)
		flow->route_epoch = settings->route_epoch;
	if (flow->flags & FLOW_TO_STACK) {
		flow->kind = FLOW_STACK;
		return 0;
	}
	if (endpoint) {
		flow->kind = FLOW_LOCAL;
		flow->ifindex = endpoint->ifindex;
		flow->mtu = 0;
		flow->flags &= ~FLOW_NO_MAC;
		__builtin_memcpy(flow->l2.dmac, endpoint->mac, ETH_ALEN);
		__builtin_memcpy(flow->l2.smac, endpoint->host_mac, ETH_ALEN);
		return 0;
	}

	fib.ifindex = ctx_input(ctx);
	if (addr_is_v4(&flow->daddr)) {
		fib.family = AF_INET;
		fib.ipv4_src = flow->saddr.w[3];
		fib.ipv4_dst = flow->daddr.w[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, &flow->saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &flow->daddr, sizeof(fib.ipv6_dst));
	}

	err = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	switch (err) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		flow->kind = FLOW_L2;
		flow->ifindex = fib.ifindex;
		flow->flags &= ~FLOW_NO_MAC;
		__builtin_memcpy(flow->l2.dmac, fib.dmac, ETH_ALEN);
		__builtin_memcpy(flow->l2.smac, fib.smac, ETH_ALEN);
		break;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		flow->kind = FLOW_L2;
		flow->ifindex = fib.ifindex;
		flow->flags |= FLOW_NO_MAC;
		break;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		/* No packet of this flow goes the old way: the next one looks it up again. */
		flow->kind = 0;
		return -1;
	default:
		/* A local address, or something only the stack can route. */
		flow->kind = FLOW_STACK;
		flow->ifindex = 0;
		flow->flags &= ~FLOW_NO_MAC;
		break;
	}
	uplink = flow->kind == FLOW_L2 ? uplink_lookup(flow->ifindex) : NULL;
	flow->mtu = uplink ? uplink->mtu : 0;
	return 0;
}
