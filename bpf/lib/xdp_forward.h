/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The driver hook's hit path: a packet of an established flow to another node, or back.
 *
 * It writes nothing but the packet. What has to be written down about a flow (its first packet in a
 * tick, flags that its state follows from, a route to look up) goes up, and bpf_host does it.
 */
#pragma once

#include "flow_keep.h"
#include "output.h"
#include "service.h"
#include "xdp_device.h"
#include "xdp_dsr.h"
#include "xdp_packet.h"

/*
 * How the driver hook sends a frame to @flow's next hop: XDP_TX, XDP_REDIRECT, or XDP_PASS where it
 * cannot. Frames that a switch floods must not be sent on by everyone who gets them.
 */
static __always_inline int xdp_way(const struct xdp_md *ctx, const struct packet *packet,
				   const struct flow *flow)
{
	const __u32 input = packet->input;
	const struct xdp_device *device;
	void *data;

	if (flow->ifindex == input) {
		data = xdp_data(ctx);
		if (data + ETH_ALEN > xdp_data_end(ctx) || !xdp_mac_equal(data, flow->l2.smac))
			return XDP_PASS;
		return XDP_TX;
	}
	/* A VLAN's tag fits no other device; VLAN devices are not in `xdp_devices`. */
	device = xdp_device_lookup(input);
	data = xdp_data(ctx);
	if (!device || data + ETH_ALEN > xdp_data_end(ctx) || !xdp_mac_equal(data, device->mac))
		return XDP_PASS;
	return xdp_device_lookup(flow->ifindex) ? XDP_REDIRECT : XDP_PASS;
}

/* Whether the driver hook may send what has @flow's rewrite, @len bytes with @ttl. */
static __always_inline bool xdp_sendable(const struct flow *flow, __u32 len, __u8 ttl)
{
	return flow->kind == FLOW_L2 && !(flow->flags & FLOW_NO_MAC) && !output_by_stack(flow) &&
	       ttl > 1 && len < XDP_GROWS_TOO_MUCH && (!flow->mtu || len <= flow->mtu);
}

/* Whether bpf_host would do no more with this packet than rewrite and send it. */
static __always_inline bool xdp_established(const struct packet *packet, const struct flow *flow,
					    __u32 now, __u32 route_epoch)
{
	if (flow->last_seen != now || flow->route_epoch != route_epoch || flow->in_ifindex)
		return false;
	if (packet->key.proto == IPPROTO_TCP)
		return !(packet->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_SYN | TCP_FLAG_RST)) &&
		       (flow->tcp_own & FLOW_TCP_ACK) && (flow->tcp_peer || flow->told) &&
		       !(flow->flags & FLOW_NEW);
	if (flow->flags & FLOW_REPLY)
		return flow->replied && !(flow->flags & FLOW_NEW);
	return !flow->target || target_alive(flow->target, flow->target_epoch);
}

/*
 * Writes @flow into the frame of @packet, an IP packet of @len bytes, and sends it by @way. Returns
 * the XDP action.
 */
static __always_inline int xdp_send(struct xdp_md *ctx, const struct packet *packet,
				    const struct flow *flow, int way, __u32 len, const bool v6)
{
	if (xdp_growth(flow, packet->key.proto, v6)) {
		if (!xdp_dispatch(ctx, packet, flow, len, v6))
			return XDP_PASS;
	} else if (!xdp_rewrite(ctx, flow, packet->key.proto, packet->l4_off - xdp_l3_len(v6),
				v6)) {
		return XDP_PASS;
	}
	return way == XDP_TX ? XDP_TX : bpf_redirect(flow->ifindex, 0);
}

/* Returns the XDP action, or VERDICT_NONE when @packet has no flow. */
static __always_inline int xdp_forward(struct xdp_md *ctx, struct packet *packet, __u32 len,
				       const bool v6)
{
	const struct settings *settings;
	const struct flow *flow;
	int way;

	flow = bpf_map_lookup_elem(&flows, &packet->key);
	if (!flow) {
		if (!packet_opens(packet))
			return XDP_PASS;
		/* One-way datagrams are never confirmed. */
		flow = bpf_map_lookup_elem(&flows_new, &packet->key);
		/* As in flow_find(); only a datagram is no SYN. */
		if (!flow && packet->key.proto != IPPROTO_TCP)
			flow = bpf_map_lookup_elem(&flows, &packet->key);
		if (!flow)
			return VERDICT_NONE;
	}
	packet->service = flow->service;
	settings = settings_get();
	if (!settings || !xdp_established(packet, flow, clock_ticks(), settings->route_epoch) ||
	    !xdp_sendable(flow, len + xdp_growth(flow, packet->key.proto, v6), packet->ttl))
		return XDP_PASS;
	if (xdp_growth(flow, packet->key.proto, v6) && packet->l4_off != xdp_l4_off(v6))
		return XDP_PASS; /* Behind a tag, bpf_host makes the room. */
	way = xdp_way(ctx, packet, flow);
	if (way == XDP_PASS)
		return XDP_PASS;
	return xdp_send(ctx, packet, flow, way, len, v6);
}
