/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Carries out a flow's rewrite on an skb: addresses, ports, TTL and every checksum.
 *
 * IPv4's header checksum makes up for changed addresses within the header; IPv6 has none, so a
 * complete skb->csum is corrected by hand (kernels from 6.16 have BPF_F_IPV6 for that, the
 * correction works on all).
 */
#pragma once

#include "rewrite_sum.h"

/* Lowers the TTL by @hop (0 or 1) and adds @addr_diff to the header checksum. */
static __always_inline void rewrite_v4_header(struct iphdr *ip, __u32 addr_diff, __u8 hop)
{
	/* Read and written whole: a byte's store would hold up the load of the word. */
	const __u16 before = *(__u16 *)&ip->ttl;
	const __u16 after = (before & 0xff00) | ((before - hop) & 0xff);

	*(__u16 *)&ip->ttl = after;
	ip->check = ~rewrite_fold((__u64)(__u16)~ip->check + addr_diff + (__u16)~before + after);
}

/* Lowers the hop limit by one. Returns by how much that changes a sum over the header. */
static __always_inline __u32 rewrite_v6_hop(struct ipv6hdr *ip)
{
	const __u16 before = *(__u16 *)&ip->nexthdr;
	const __u16 after = before - (1 << 8);

	*(__u16 *)&ip->nexthdr = after;
	return (__u16)~before + (__u32)after;
}

/*
 * Returns 0, or -1 when the packet could not be written. @hop: 1 where the packet is forwarded.
 * @whole: as rewrite_is_whole() says, or false.
 */
static __always_inline int rewrite_packet_as(struct __sk_buff *skb, const struct packet *packet,
					     const struct flow *flow, __u8 hop, const bool v6,
					     const bool whole)
{
	const __u32 addr_diff = flow->addr_diff;
	void *data = packet_data(skb);
	void *data_end = packet_end(skb);
	__be16 *ports = data + packet_l4_off(packet, v6);
	__u32 hop_diff = 0;

	if ((void *)(ports + 2) > data_end)
		return -1;
	ports[0] = flow->sport;
	ports[1] = flow->dport;
	if (whole && rewrite_whole(skb, packet, flow, v6))
		return -1;

	if (v6) {
		struct ipv6hdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > data_end)
			return -1;
		__builtin_memcpy(&ip->saddr, &flow->saddr, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &flow->daddr, sizeof(ip->daddr));
		if (hop)
			hop_diff = rewrite_v6_hop(ip);
	} else {
		struct iphdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > data_end)
			return -1;
		ip->saddr = flow->saddr.w[3];
		ip->daddr = flow->daddr.w[3];
		rewrite_v4_header(ip, addr_diff, hop);
	}

	if (whole) {
		/* Only a complete sum takes this. IPv6's addresses are in it as well. */
		bpf_csum_update(skb, v6 ? hop_diff : ~addr_diff);
		return 0;
	}
	if (rewrite_checksums(skb, packet, flow))
		return -1;
	if (v6) {
		/*
		 * The L4 helper took addr_diff out of a complete sum, which the addresses
		 * themselves had just put in: put it back, and account for the hop limit.
		 * For any other kind of checksum the helper refuses, which is right.
		 */
		__u64 sum = (__u64)addr_diff + hop_diff;

		bpf_csum_update(skb, (sum & 0xffffffff) + (sum >> 32));
	}
	return 0;
}

/* As rewrite_packet_as(), where a few nanoseconds are not worth the verifier's time. */
static __always_inline int rewrite_packet(struct __sk_buff *skb, const struct packet *packet,
					  const struct flow *flow, __u8 hop, const bool v6)
{
	return rewrite_packet_as(skb, packet, flow, hop, v6, false);
}

/* Lowers the TTL of a packet that is forwarded untranslated. */
static __always_inline int rewrite_hop(struct __sk_buff *skb, const bool v6)
{
	void *data = packet_data(skb);
	void *data_end = packet_end(skb);

	if (v6) {
		struct ipv6hdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > data_end)
			return -1;
		bpf_csum_update(skb, rewrite_v6_hop(ip));
	} else {
		struct iphdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > data_end)
			return -1;
		rewrite_v4_header(ip, 0, 1);
	}
	return 0;
}

static __always_inline int rewrite_macs(struct __sk_buff *skb, const __u8 *dmac, const __u8 *smac)
{
	void *data = packet_data(skb);
	struct ethhdr *eth = data;

	if (data + ETH_HLEN > packet_end(skb))
		return -1;
	__builtin_memcpy(eth->h_dest, dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, smac, ETH_ALEN);
	return 0;
}
