/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who asks, as session affinity and source ranges know a client: by its address. */
#pragma once

#include "affinity.h"
#include "sock_frontend.h"

/* RFC 6666: packets to 100::/64 are discarded, so no client has an address of it. */
#define ADDR_DISCARD_PREFIX bpf_cpu_to_be64(0x0100000000000000ULL)

enum sock_client_kind {
	SOCK_CLIENT_NODE = 0,	 /* the node itself, whose address is zero */
	SOCK_CLIENT_POD = 1,	 /* a pod by its address, as its packets have it */
	SOCK_CLIENT_UNKNOWN = 2, /* a namespace that the agent knows no address of */
};

/* Writes the address of the client that asks for an address of the family of @like. */
static __always_inline enum sock_client_kind sock_client(struct bpf_sock_addr *ctx,
							 const struct addr *like, struct addr *addr)
{
	const __u64 cookie = bpf_get_netns_cookie(ctx);
	const struct client *client;

	addr->d[0] = 0;
	addr->d[1] = 0;
	if (netns_is_host(cookie))
		return SOCK_CLIENT_NODE;

	client = bpf_map_lookup_elem(&clients, &cookie);
	if (client)
		*addr = addr_is_v4(like) ? client->v4 : client->v6;
	if (!addr_is_zero(addr))
		return SOCK_CLIENT_POD;

	addr->d[0] = ADDR_DISCARD_PREFIX;
	addr->d[1] = cookie;
	return SOCK_CLIENT_UNKNOWN;
}
