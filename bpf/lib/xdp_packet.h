/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads and rewrites a frame in the driver hook, where there is no skb: no helper knows its
 * checksum, which is complete because it came over a wire.
 *
 * Only the plain case is here. Whatever has options, extension headers or fragments goes up.
 */
#pragma once

#include "packet.h"
#include "rewrite.h"
#include "xdp_device.h"

#define XDP_TAG_LEN 4
#define XDP_TAGS_OFFSET (2 * ETH_ALEN)
#define XDP_TAG_MASK 0xffff0fff /* leaves out priority and drop eligibility */

/* Words of a frame, whose structs promise no alignment. */
typedef __u16 __attribute__((may_alias)) xdp_u16;
typedef __u32 __attribute__((may_alias)) xdp_u32;
typedef __u64 __attribute__((may_alias)) xdp_u64;

/* The bounds, in assembly for the reason given at packet_data(). */
static __always_inline void *xdp_data(const struct xdp_md *ctx)
{
	void *data;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(data)
		     : "r"(ctx), "i"(offsetof(struct xdp_md, data)));
	return data;
}

static __always_inline void *xdp_data_end(const struct xdp_md *ctx)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(end)
		     : "r"(ctx), "i"(offsetof(struct xdp_md, data_end)));
	return end;
}

static __always_inline __u32 xdp_l3_len(const bool v6)
{
	return v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

/* In a frame without tags. */
static __always_inline __u32 xdp_l4_off(const bool v6)
{
	return ETH_HLEN + xdp_l3_len(v6);
}

static __always_inline bool xdp_is_tag(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool xdp_mac_equal(const void *a, const void *b)
{
	const xdp_u16 *x = a, *y = b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

static __always_inline void xdp_addr_v6(struct addr *addr, const void *v6)
{
	/* Whole halves, as the map compares them: words would have to reach memory first. */
	addr->d[0] = ((const xdp_u64 *)v6)[0];
	addr->d[1] = ((const xdp_u64 *)v6)[1];
}

/*
 * Reads up to two VLAN tags and leaves in @packet for which device the frame is. Returns the
 * protocol behind them, and in @l3_off where that starts; 0 where nobody here has that VLAN.
 */
static __always_inline __be16 xdp_untag(const struct xdp_md *ctx, struct packet *packet,
					__u32 *l3_off)
{
	void *data = xdp_data(ctx), *end = xdp_data_end(ctx);
	const xdp_u16 *words = data + XDP_TAGS_OFFSET;
	struct xdp_vlan_key key = {.parent = ctx->ingress_ifindex};
	const __u32 *device;

	if (data + ETH_HLEN + 2 * XDP_TAG_LEN > end)
		return 0;
	key.outer = ((__u32)bpf_ntohs(words[0]) << 16 | bpf_ntohs(words[1])) & XDP_TAG_MASK;
	words += 2;
	*l3_off = ETH_HLEN + XDP_TAG_LEN;
	if (xdp_is_tag(words[0])) {
		key.inner = ((__u32)bpf_ntohs(words[0]) << 16 | bpf_ntohs(words[1])) & XDP_TAG_MASK;
		words += 2;
		*l3_off = ETH_HLEN + 2 * XDP_TAG_LEN;
	}
	device = bpf_map_lookup_elem(&xdp_vlans, &key);
	if (!device)
		return 0;
	packet->input = *device;
	return words[0];
}

/*
 * Fills @packet and @len, the IP packet's length, and returns true where the packet at @l3_off is a
 * plain one with ports.
 */
static __always_inline bool xdp_parse(const struct xdp_md *ctx, struct packet *packet, __u32 *len,
				      __u32 l3_off, const bool v6)
{
	void *l3 = xdp_data(ctx) + l3_off, *end = xdp_data_end(ctx);
	void *l4 = l3 + xdp_l3_len(v6);

	if (l4 + sizeof(struct udphdr) > end)
		return false;
	if (v6) {
		const struct ipv6hdr *ip = l3;

		if (ip->version != 6)
			return false;
		xdp_addr_v6(&packet->key.saddr, &ip->saddr);
		xdp_addr_v6(&packet->key.daddr, &ip->daddr);
		packet->key.proto = ip->nexthdr;
		packet->ttl = ip->hop_limit;
		*len = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	} else {
		const struct iphdr *ip = l3;

		if (*(const __u8 *)ip != 0x45 ||
		    (ip->frag_off & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS)))
			return false;
		addr_set_v4(&packet->key.saddr, ip->saddr);
		addr_set_v4(&packet->key.daddr, ip->daddr);
		packet->key.proto = ip->protocol;
		packet->ttl = ip->ttl;
		*len = bpf_ntohs(ip->tot_len);
	}
	*(xdp_u32 *)&packet->key.sport = *(const xdp_u32 *)l4;
	packet->l4_off = l3_off + xdp_l3_len(v6);
	if (packet->key.proto == IPPROTO_TCP) {
		if (l4 + sizeof(struct tcphdr) > end)
			return false;
		packet->tcp_flags = ((const __u8 *)l4)[13];
		return true;
	}
	packet->tcp_flags = 0;
	if (packet->key.proto == IPPROTO_SCTP) {
		/* Of what is cut short bpf_host cannot correct the CRC: it must open no flow. */
		return *len >= xdp_l3_len(v6) + SCTP_HEADER && *len <= end - l3;
	}
	return packet->key.proto == IPPROTO_UDP;
}

/* Gives the L4 header at @l4 @flow's ports. Returns false, with nothing written, where it cannot.
 */
static __always_inline bool xdp_rewrite_l4(void *l4, const void *end, const struct flow *flow,
					   __u8 proto)
{
	if (l4 + sizeof(struct udphdr) > end)
		return false;
	if (proto == IPPROTO_TCP) {
		if (l4 + sizeof(struct tcphdr) > end)
			return false;
		rewrite_check(&((struct tcphdr *)l4)->check, flow, false);
	} else if (proto == IPPROTO_UDP) {
		rewrite_check(&((struct udphdr *)l4)->check, flow, true);
	} else if (*(xdp_u32 *)l4 != *(const xdp_u32 *)&flow->sport) {
		return false; /* SCTP's CRC over other ports is bpf_host's work. */
	}
	*(xdp_u32 *)l4 = *(const xdp_u32 *)&flow->sport;
	return true;
}

/* Both MACs lie in the flow as they do in the frame. */
static __always_inline void xdp_write_macs(void *data, const struct flow *flow)
{
	((xdp_u64 *)data)[0] = ((const xdp_u64 *)flow->l2.dmac)[0];
	((xdp_u32 *)data)[2] = ((const xdp_u32 *)flow->l2.dmac)[2];
}

static __always_inline void xdp_write_addrs_v6(struct ipv6hdr *ip, const struct flow *flow)
{
	xdp_u64 *addrs = (void *)&ip->saddr;

	addrs[0] = flow->saddr.d[0];
	addrs[1] = flow->saddr.d[1];
	addrs[2] = flow->daddr.d[0];
	addrs[3] = flow->daddr.d[1];
}

/*
 * Makes the frame, which xdp_parse() has passed and whose IP header is at @l3_off, carry @flow's
 * rewrite and its MACs, one hop further. Returns false, with nothing written, where it cannot.
 */
static __always_inline bool xdp_rewrite(const struct xdp_md *ctx, const struct flow *flow,
					__u8 proto, __u32 l3_off, const bool v6)
{
	void *data = xdp_data(ctx), *end = xdp_data_end(ctx);
	/* The mask loses nothing, and gives the verifier its bound back. */
	void *l3 = data + (l3_off & 0x1f);

	if (data + ETH_HLEN > end || !xdp_rewrite_l4(l3 + xdp_l3_len(v6), end, flow, proto))
		return false;
	if (v6) {
		struct ipv6hdr *ip = l3;

		xdp_write_addrs_v6(ip, flow);
		rewrite_v6_hop(ip);
	} else {
		struct iphdr *ip = l3;

		ip->saddr = flow->saddr.w[3];
		ip->daddr = flow->daddr.w[3];
		rewrite_v4_header(ip, flow->addr_diff, 1);
	}
	xdp_write_macs(data, flow);
	return true;
}
