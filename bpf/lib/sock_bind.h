/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps the node's own programs off NodePorts, as kube-proxy's placeholder sockets did: what they
 * received there would be the service's traffic, or nothing.
 */
#pragma once

#include "config.h"
#include "service.h"
#include "sock_frontend.h"

static __always_inline bool bind_taken(const struct addr *addr, __be16 port, __u8 proto)
{
	const struct service *service = service_lookup_wildcard(addr, port, proto);

	return service && service->kind == SERVICE_NODE_PORT;
}

/*
 * Decides on a socket just bound to @addr; the return value is that of a post_bind program. A
 * socket on :: serves IPv4 too unless it is IPV6_V6ONLY, which the hook cannot see.
 */
static __always_inline int bind_check(struct bpf_sock *ctx, const struct addr *addr)
{
	const struct addr any_v6 = {};
	struct addr any_v4;
	__be16 port;

	if (!CONFIG.bind_protection || !netns_is_host(bpf_get_netns_cookie(ctx)))
		return 1;

	port = bpf_htons(ctx->src_port);
	addr_set_v4(&any_v4, 0);
	if (!bind_taken(addr, port, ctx->protocol) &&
	    !(addr_equal(addr, &any_v6) && bind_taken(&any_v4, port, ctx->protocol)))
		return 1;

	/* Below 6.1 the caller gets EPERM. */
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_set_retval))
		bpf_set_retval(-EADDRINUSE);
	return 0;
}
