/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which service an address belongs to when a socket names it.
 *
 * Who asks matters: loopback is the node's only for the node's own sockets, and a NodePort of
 * another node is that node's business, so its packets travel.
 */
#pragma once

#include "config.h"
#include "owned.h"
#include "service.h"

/* Whether a socket with this network namespace's cookie is one of the node itself. */
static __always_inline bool netns_is_host(__u64 cookie)
{
	__u64 host = CONFIG.host_netns_cookie;

	return cookie == (host ? host : bpf_get_netns_cookie(NULL));
}

static __always_inline bool sock_in_host(struct bpf_sock_addr *ctx)
{
	return netns_is_host(bpf_get_netns_cookie(ctx));
}

/* Clients that only bpf_lxc serves, per packet. */
static __always_inline bool sock_exempt(struct bpf_sock_addr *ctx)
{
	if (!CONFIG.socket_lb)
		return true;
	return CONFIG.socket_lb_host_only && !sock_in_host(ctx);
}

static __always_inline bool addr_is_loopback(const struct addr *addr)
{
	if (addr_is_v4(addr))
		return (addr->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return addr->d[0] == 0 && addr->w[2] == 0 && addr->w[3] == bpf_htonl(1);
}

/*
 * The kernel takes an unspecified destination for loopback. In `services` it is the wildcard, which
 * no client may name.
 */
static __always_inline void addr_resolve_unspecified(struct addr *addr)
{
	if (addr->w[3])
		return;
	if (addr_is_v4(addr))
		addr->w[3] = bpf_htonl(0x7f000001);
	else if (addr_is_zero(addr))
		addr->w[3] = bpf_htonl(1);
}

static __always_inline bool sock_nodeport_served(struct bpf_sock_addr *ctx, const struct addr *addr)
{
	const struct owned *owned;

	if (addr_is_loopback(addr))
		return true;
	owned = owned_lookup(addr);
	if (!owned)
		return false;
	if (owned->flags & OWNED_NODEPORT)
		return true;
	return (owned->flags & OWNED_LOOPBACK) && sock_in_host(ctx);
}

/* The service behind @addr:@port for this socket, or NULL. An exact frontend wins. */
static __always_inline const struct service *
sock_frontend(struct bpf_sock_addr *ctx, const struct addr *addr, __be16 port, __u8 proto)
{
	const struct service *service;

	if (addr_is_loopback(addr) && !sock_in_host(ctx))
		return NULL;

	service = service_lookup(addr, port, proto);
	if (service)
		return service;

	service = service_lookup_wildcard(addr, port, proto);
	if (!service || !sock_nodeport_served(ctx, addr))
		return NULL;
	return service;
}
