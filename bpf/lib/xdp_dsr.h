/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The LB node's part of direct server return in the driver hook: frames that grow. */
#pragma once

#include "dsr_ipip.h"
#include "dsr_option.h"
#include "mss.h"
#include "xdp_packet.h"

/* More than any device's MTU: bpf_host sends it. */
#define XDP_GROWS_TOO_MUCH 0x10000

static __always_inline __u32 xdp_outer_size(const bool v6)
{
	return v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

/* Bytes by which dispatching makes the next packet of @flow longer. */
static __always_inline __u32 xdp_growth(const struct flow *flow, __u8 proto, const bool v6)
{
	if (!CONFIG.dsr_dispatch || (flow->flags & (FLOW_DSR | FLOW_REPLY)) != FLOW_DSR)
		return 0;
	if (CONFIG.dsr_dispatch == DSR_IPIP)
		return xdp_outer_size(v6);
	if (CONFIG.dsr_dispatch == DSR_GENEVE)
		return XDP_GROWS_TOO_MUCH;
	if (!(flow->flags & FLOW_OPTION) && proto == IPPROTO_TCP)
		return 0;
	return dsr_option_size(v6);
}

/*
 * Whether xdp_clamp() can read what a SYN announces. Where the option is not the first
 * one, as it is with everybody, bpf_host does it.
 */
static __always_inline bool xdp_clampable(const struct xdp_md *ctx, const bool v6)
{
	const __u8 *l4 = xdp_data(ctx) + xdp_l4_off(v6), *option = l4 + sizeof(struct tcphdr);

	if ((void *)option > xdp_data_end(ctx))
		return false;
	if (l4[TCP_WORDS_OFFSET] >> 4 == sizeof(struct tcphdr) / 4)
		return true;
	return (void *)option + TCP_OPTION_MSS_LENGTH <= xdp_data_end(ctx) &&
	       option[0] == TCP_OPTION_MSS && option[1] == TCP_OPTION_MSS_LENGTH;
}

/* The SYN, if xdp_clampable(), announces segments that have room for what dispatching adds. */
static __always_inline void xdp_clamp(const struct xdp_md *ctx, __u32 mtu, __u32 overhead,
				      const bool v6)
{
	const __u32 taken = overhead + (v6 ? DSR_TCP_V6 : DSR_TCP_V4);
	struct tcphdr *tcp = xdp_data(ctx) + xdp_l4_off(v6);
	__be16 *announced = (void *)(tcp + 1) + 2, before;

	if ((void *)(announced + 1) > xdp_data_end(ctx) ||
	    ((const __u8 *)tcp)[TCP_WORDS_OFFSET] >> 4 == sizeof(*tcp) / 4)
		return;
	before = *announced;
	if (mtu <= taken + DSR_MSS_MIN || bpf_ntohs(before) <= mtu - taken)
		return;
	*announced = bpf_htons(mtu - taken);
	tcp->check = ~rewrite_fold((__u64)(__u16)~tcp->check + (__u16)~before + *announced);
}

/*
 * Moves the Ethernet and IP headers, which @size bytes were put in front of, to the start, and
 * returns where the gap behind them begins, or NULL.
 */
static __always_inline void *xdp_open_gap(const struct xdp_md *ctx, const __u32 size, const bool v6)
{
	void *data = xdp_data(ctx), *end = xdp_data_end(ctx);
	const __u32 header = xdp_l4_off(v6);
	const xdp_u64 *from = data + size;
	xdp_u64 *to = data;

	if (data + size + header > end)
		return NULL;
	for (__u32 i = 0; i < header / 8; i++)
		to[i] = from[i];
	if (v6) {
		((xdp_u32 *)data)[12] = ((const xdp_u32 *)(data + size))[12];
		((xdp_u16 *)data)[26] = ((const xdp_u16 *)(data + size))[26];
	} else {
		((xdp_u16 *)data)[16] = ((const xdp_u16 *)(data + size))[16];
	}
	return data + header;
}

/* Sends the plain frame @packet with @flow's rewrite and the option. Returns true if it could. */
static __always_inline bool xdp_insert(struct xdp_md *ctx, const struct packet *packet,
				       const struct flow *flow, const bool v6)
{
	const struct dsr_mark mark = {
		.vip = packet->key.daddr,
		.port = packet->key.dport,
		.client_port = packet->key.sport,
	};
	const struct flow_key key = {
		.saddr = packet->key.saddr,
		.daddr = flow->daddr,
		.sport = flow->sport,
		.dport = flow->dport,
		.proto = packet->key.proto,
	};
	const __u32 size = dsr_option_size(v6);
	void *gap;

	/* SCTP's CRC over other ports is bpf_host's work. */
	if (key.proto == IPPROTO_SCTP &&
	    (key.sport != packet->key.sport || key.dport != packet->key.dport))
		return false;
	if (bpf_xdp_adjust_head(ctx, -(int)size))
		return false;
	if (!xdp_rewrite(ctx, flow, key.proto, size, ETH_HLEN, v6))
		return false;
	gap = xdp_open_gap(ctx, size, v6);
	if (!gap || gap + size > xdp_data_end(ctx))
		return false;
	if (v6) {
		struct ipv6hdr *ip = gap - sizeof(*ip);

		dsr_write_v6(gap, &key, &mark);
		ip->payload_len = bpf_htons(bpf_ntohs(ip->payload_len) + size);
		ip->nexthdr = IPPROTO_DSTOPTS;
	} else {
		struct iphdr *ip = gap - sizeof(*ip);
		const xdp_u16 *words = gap;
		__u64 sum = (__u64)(__u16)~ip->check + (__u16) ~*(__u16 *)ip + (__u16)~ip->tot_len;

		dsr_write_v4(gap, &key, &mark);
		*(__u8 *)ip += size / 4;
		ip->tot_len = bpf_htons(bpf_ntohs(ip->tot_len) + size);
		sum += *(__u16 *)ip + (__u64)ip->tot_len;
		for (__u32 i = 0; i < size / 2; i++)
			sum += words[i];
		ip->check = ~rewrite_fold(sum);
	}
	return true;
}

/* Puts the frame, whose IP packet has @len bytes, into one to @flow's backend. */
static __always_inline bool xdp_encapsulate(struct xdp_md *ctx, const struct packet *packet,
					    const struct flow *flow, __u32 len, const bool v6)
{
	const __u32 size = xdp_outer_size(v6);
	void *data;

	if (bpf_xdp_adjust_head(ctx, -(int)size))
		return false;
	data = xdp_data(ctx);
	if (data + xdp_l4_off(v6) > xdp_data_end(ctx))
		return false;
	((xdp_u64 *)data)[0] = ((const xdp_u64 *)flow->l2.dmac)[0];
	((xdp_u32 *)data)[2] = ((const xdp_u32 *)flow->l2.dmac)[2];
	if (v6) {
		((xdp_u16 *)data)[6] = bpf_htons(ETH_P_IPV6);
		dsr_outer_v6(data + ETH_HLEN, flow, len, &packet->key.daddr);
	} else {
		struct iphdr *outer = data + ETH_HLEN;

		((xdp_u16 *)data)[6] = bpf_htons(ETH_P_IP);
		dsr_outer_v4(outer, flow, len + size, packet->key.daddr.w[3]);
		outer->check = dsr_sum_v4(outer);
	}
	return true;
}

/* Makes the frame what @flow, whose xdp_growth() is not 0, makes of it. */
static __always_inline bool xdp_dispatch(struct xdp_md *ctx, const struct packet *packet,
					 const struct flow *flow, __u32 len, const bool v6)
{
	if (CONFIG.dsr_dispatch == DSR_IPIP)
		return xdp_encapsulate(ctx, packet, flow, len, v6);
	return xdp_insert(ctx, packet, flow, v6);
}
