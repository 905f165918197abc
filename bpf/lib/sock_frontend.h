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
#include "sock_vip.h"

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

/* Whether a wildcard frontend may have @port. */
static __always_inline bool sock_may_be_wildcard(__be16 port)
{
	const __u16 number = bpf_ntohs(port);
	const struct settings *settings;

	if (CONFIG.nodeport && number >= CONFIG.nodeport_min && number <= CONFIG.nodeport_max)
		return true;
	settings = settings_get();
	return settings && settings->host_ports;
}

static __always_inline bool sock_wildcard_served(struct bpf_sock_addr *ctx, const struct addr *addr)
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

/*
 * An external IP that only the network in front of the cluster may claim, and a hostIP that is not
 * this node's: whoever may write a service or a pod could otherwise take any address's traffic from
 * the cluster (CVE-2020-8554).
 */
static __always_inline bool sock_withheld(const struct service *service, const struct addr *addr)
{
	const __u32 kinds = 1 << SERVICE_HOST_PORT | !CONFIG.external_ips_inside
							     << SERVICE_EXTERNAL_IP;

	return service_is_one_of(service->kind, kinds) && !owned_lookup(addr);
}

/*
 * The service behind @addr:@port for this socket, or NULL. An exact frontend wins. @closed: the
 * address is a cluster IP, so that nobody else will answer on that port either.
 */
static __always_inline const struct service *sock_frontend(struct bpf_sock_addr *ctx,
							   const struct addr *addr, __be16 port,
							   __u8 proto, bool *closed)
{
	const struct service *service;
	const struct vip *vip = NULL;
	struct addr *hint;
	bool hinted;

	*closed = false;
	if (addr_is_loopback(addr) && !sock_in_host(ctx))
		return NULL;

	hint = vip_hint(addr);
	hinted = hint && addr_equal(hint, addr);
	if (!hinted)
		vip = vip_lookup(addr);
	if (hinted || vip) {
		service = service_lookup(addr, port, proto);
		if (service) {
			if (hint && !hinted)
				*hint = *addr;
			return sock_withheld(service, addr) ? NULL : service;
		}
	}
	if (sock_may_be_wildcard(port) && sock_wildcard_served(ctx, addr)) {
		service = service_lookup_wildcard(addr, port, proto);
		if (service)
			return service;
	}

	if (hinted)
		vip = vip_lookup(addr);
	*closed = vip && (vip->flags & VIP_CLUSTER_IP) && !(vip->flags & VIP_FOREIGN) &&
		  !owned_lookup(addr);
	return NULL;
}
