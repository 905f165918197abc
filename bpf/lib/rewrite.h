/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Carries out a flow's rewrite on an skb: addresses, ports, TTL and every checksum.
 *
 * An skb's checksum may be complete, partial or none and a program cannot see which, so the L4
 * checksum goes through the helper that can. IPv4's header checksum makes up for changed addresses
 * within the header; IPv6 has none, so a complete skb->csum is corrected by hand (kernels from 6.16
 * have BPF_F_IPV6 for that, the correction works on all).
 */
#pragma once

#include "flow.h"
#include "packet.h"
#include "sctp.h"

/* One's-complement sums of what the rewrite changes. The v4-mapped prefix cancels out. */
static __always_inline void rewrite_prepare(const struct flow_key *key, struct flow *flow)
{
	flow->addr_diff = bpf_csum_diff((void *)&key->saddr, 2 * sizeof(struct addr),
					(void *)&flow->saddr, 2 * sizeof(struct addr), 0);
	flow->port_diff = bpf_csum_diff((void *)&key->sport, 2 * sizeof(__be16),
					(void *)&flow->sport, 2 * sizeof(__be16), 0);
}

static __always_inline __u16 rewrite_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Lowers the TTL by @hop (0 or 1) and adds @addr_diff to the header checksum. */
static __always_inline void rewrite_v4_header(struct iphdr *ip, __u32 addr_diff, __u8 hop)
{
	const __u16 before = *(__u16 *)&ip->ttl;
	__u64 sum = (__u16)~ip->check;

	ip->ttl -= hop;
	sum += addr_diff;
	sum += (__u16)~before;
	sum += *(__u16 *)&ip->ttl;
	ip->check = ~rewrite_fold(sum);
}

static __always_inline int rewrite_checksums(struct __sk_buff *skb, const struct packet *packet,
					     const struct flow *flow)
{
	const __u32 addr_diff = flow->addr_diff, port_diff = flow->port_diff;
	const __u8 proto = packet->key.proto;
	const __u32 offset = packet->l4_off + packet_csum_offset(proto);
	const __u64 mangled = proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (proto == IPPROTO_SCTP) {
		const __u32 change = ((__u32)packet->key.sport ^ flow->sport) |
				     ((__u32)packet->key.dport ^ flow->dport) << 16;

		return change ? sctp_update(skb, packet->l4_off, change) : 0;
	}
	if (addr_diff && bpf_l4_csum_replace(skb, offset, 0, addr_diff, BPF_F_PSEUDO_HDR | mangled))
		return -1;
	if (port_diff && bpf_l4_csum_replace(skb, offset, 0, port_diff, mangled))
		return -1;
	return 0;
}

/* Returns 0, or -1 when the packet could not be written. @hop: 1 where the packet is forwarded. */
static __always_inline int rewrite_packet(struct __sk_buff *skb, const struct packet *packet,
					  const struct flow *flow, __u8 hop, const bool v6)
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

	if (v6) {
		struct ipv6hdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > data_end)
			return -1;
		__builtin_memcpy(&ip->saddr, &flow->saddr, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &flow->daddr, sizeof(ip->daddr));
		if (hop) {
			const __u16 before = *(__u16 *)&ip->nexthdr;

			ip->hop_limit--;
			hop_diff = (__u16)~before + (__u32) * (__u16 *)&ip->nexthdr;
		}
	} else {
		struct iphdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > data_end)
			return -1;
		ip->saddr = flow->saddr.w[3];
		ip->daddr = flow->daddr.w[3];
		rewrite_v4_header(ip, addr_diff, hop);
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

/* Lowers the TTL of a packet that is forwarded untranslated. */
static __always_inline int rewrite_hop(struct __sk_buff *skb, const bool v6)
{
	void *data = packet_data(skb);
	void *data_end = packet_end(skb);

	if (v6) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		__u16 before;
		__u32 diff;

		if ((void *)(ip + 1) > data_end)
			return -1;
		before = *(__u16 *)&ip->nexthdr;
		ip->hop_limit--;
		diff = (__u16)~before + (__u32) * (__u16 *)&ip->nexthdr;
		bpf_csum_update(skb, diff);
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
