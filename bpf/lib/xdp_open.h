/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The first packet of a connection in the driver hook: the same choice as in balance.h, as far as
 * it ends at a backend of another node whose next hop is known. Everything else goes up before
 * anything was changed.
 */
#pragma once

#include "choose.h"
#include "flow_open.h"
#include "source_range.h"
#include "xdp_forward.h"

/*
 * What the driver hook knows how to do for a frontend; with any other flag bpf_host serves. Local
 * backends go up anyway, delegated or not.
 */
#define XDP_SERVICE_FLAGS                                                                          \
	(SERVICE_HAS_ENDPOINTS | SERVICE_AFFINITY | SERVICE_SOURCE_RANGES |                        \
	 SERVICE_SOURCE_RANGES_DENY | SERVICE_DELEGATE | SERVICE_DSR)

/* Opens the flow of @packet that scratch->plan and @forward describe, and sends it. */
static __always_inline int xdp_open_way(struct xdp_md *ctx, const struct packet *packet,
					struct flow *forward, __u32 len, const bool v6)
{
	const __u32 growth = xdp_growth(forward, packet->key.proto, v6);
	const bool clamps = growth && packet->key.proto == IPPROTO_TCP && forward->mtu;
	struct flow *opened;
	int way, action;

	if (!xdp_sendable(forward, len + growth, packet->ttl))
		return XDP_PASS;
	if (growth && packet->l4_off != xdp_l4_off(v6))
		return XDP_PASS;
	way = xdp_way(ctx, packet, forward);
	if (way == XDP_PASS)
		return XDP_PASS;
	if (clamps && !xdp_clampable(ctx, v6))
		return XDP_PASS;
	forward->told = !!growth;
	if (flow_open(ctx))
		return XDP_PASS;
	if (clamps)
		xdp_clamp(ctx, forward->mtu, dsr_overhead(v6), v6);
	action = xdp_send(ctx, packet, forward, way, len, v6);
	if (growth && action == XDP_PASS) {
		/* No room in front, or SCTP's CRC to do: bpf_host's packet will say so. */
		opened = bpf_map_lookup_elem(&flows_new, &packet->key);
		if (opened)
			opened->told = 0;
	}
	return action;
}

/* Opens the flow of @packet, which has none, and sends it. Returns the XDP action. */
static __always_inline int xdp_open(struct xdp_md *ctx, const struct packet *packet, __u32 len)
{
	const struct service *service = choose_frontend(packet);
	const struct backend *backend;
	struct scratch *scratch;
	struct flow *forward;

	if (!service || service->kind == SERVICE_CLUSTER_IP ||
	    (service->flags & ~XDP_SERVICE_FLAGS) || endpoint_lookup(&packet->key.daddr))
		return XDP_PASS;
	if ((service->flags & SERVICE_SOURCE_RANGES) &&
	    !source_range_permits(service, &packet->key.saddr))
		return XDP_PASS;
	backend = choose_backend_for(service, packet);
	scratch = scratch_get();
	if (!backend || !scratch)
		return XDP_PASS;
	scratch->packet = *packet;
	scratch->packet.service = service->id;
	if (choose_way(ctx, scratch, service, backend))
		return XDP_PASS;
	forward = &scratch->forward;
	/* Both are the same function with another constant: sizes and offsets stay known. */
	if (addr_is_v4(&packet->key.saddr))
		return xdp_open_way(ctx, packet, forward, len, false);
	return xdp_open_way(ctx, packet, forward, len, true);
}
