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
	if (!CONFIG.dsr_dispatch || !flow_is_dispatched(flow))
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
 * Writes an Ethernet and an IP header to @data, with @flow's rewrite and @option, from those of the
 * frame that begins @size bytes behind. Field by field from registers: what was just stored in
 * other sizes would hold up a copy.
 */
static __always_inline void xdp_grow_v4(void *data, const struct flow *flow, const __u64 option[2],
					const __u32 size)
{
	const xdp_u16 *from = data + size + ETH_HLEN;
	const __u16 ttl = from[4], after = (ttl & 0xff00) | ((ttl - 1) & 0xff);
	const __u16 start = from[0] + size / 4, length = bpf_htons(bpf_ntohs(from[1]) + size);
	const __u32 id = *(const xdp_u32 *)(from + 2);
	__u64 sum = (__u64)(__u16)~from[5] + flow->addr_diff + dsr_words_sum(option);
	xdp_u16 *to = data + ETH_HLEN;

	sum += (__u64)(__u16)~from[0] + start + (__u16)~from[1] + length + (__u16)~ttl + after;
	xdp_write_macs(data, flow);
	to[-1] = bpf_htons(ETH_P_IP);
	to[0] = start;
	to[1] = length;
	*(xdp_u32 *)(to + 2) = id;
	to[4] = after;
	to[5] = ~rewrite_fold(sum);
	*(xdp_u32 *)(to + 6) = flow->saddr.w[3];
	*(xdp_u32 *)(to + 8) = flow->daddr.w[3];
	*(xdp_u64 *)(to + 10) = option[0];
	if (size > sizeof(option[0]))
		*(xdp_u64 *)(to + 14) = option[1];
}

/* As xdp_grow_v4(); the option behind the header is dsr_write_v6()'s. */
static __always_inline void xdp_grow_v6(void *data, const struct flow *flow, const __u32 size)
{
	const struct ipv6hdr *from = data + size + ETH_HLEN;
	const __u32 start = *(const xdp_u32 *)from;
	const __u16 length = bpf_htons(bpf_ntohs(from->payload_len) + size);
	const __u8 hop_limit = from->hop_limit - 1;
	struct ipv6hdr *to = data + ETH_HLEN;

	xdp_write_macs(data, flow);
	((xdp_u16 *)to)[-1] = bpf_htons(ETH_P_IPV6);
	*(xdp_u32 *)to = start;
	to->payload_len = length;
	to->nexthdr = IPPROTO_DSTOPTS;
	to->hop_limit = hop_limit;
	xdp_write_addrs_v6(to, flow);
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
	__u64 option[2];
	void *data, *l4;

	/* SCTP's CRC over other ports is bpf_host's work. */
	if (key.proto == IPPROTO_SCTP &&
	    (key.sport != packet->key.sport || key.dport != packet->key.dport))
		return false;
	if (!v6)
		dsr_words_v4(&key, &mark, option);
	if (bpf_xdp_adjust_head(ctx, -(int)size))
		return false;
	data = xdp_data(ctx);
	l4 = data + xdp_l4_off(v6) + size;
	if (l4 > xdp_data_end(ctx) || !xdp_rewrite_l4(l4, xdp_data_end(ctx), flow, key.proto))
		return false;
	if (v6) {
		xdp_grow_v6(data, flow, size);
		dsr_write_v6(data + xdp_l4_off(v6), &key, &mark);
	} else {
		xdp_grow_v4(data, flow, option, size);
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
	xdp_write_macs(data, flow);
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
