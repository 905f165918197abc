/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a rewrite does to the L4 checksum.
 *
 * An skb's checksum may be complete, partial, verified or none and a program cannot see which: the
 * helper that can is asked, except where the packet itself shows that its sum is whole.
 */
#pragma once

#include "flow.h"
#include "packet.h"
#include "sctp.h"

static __always_inline __u16 rewrite_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Folds to 32 bits. */
static __always_inline __u32 rewrite_fold_wide(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __u64 rewrite_sum(const struct addr *addr)
{
	return (__u64)addr->w[0] + addr->w[1] + addr->w[2] + addr->w[3];
}

/*
 * One's-complement sums of what the rewrite changes: new words and old words' complements. What is
 * in front of an IPv4 address cancels out.
 */
static __always_inline void rewrite_prepare(const struct flow_key *key, struct flow *flow)
{
	const __u64 complements = 8ull * 0xffffffff;
	const __u32 ports = key->sport | (__u32)key->dport << 16;
	const __u64 new_ports = flow->sport | (__u32)flow->dport << 16;

	flow->addr_diff = rewrite_fold_wide(rewrite_sum(&flow->saddr) + rewrite_sum(&flow->daddr) +
					    complements - rewrite_sum(&key->saddr) -
					    rewrite_sum(&key->daddr));
	flow->port_diff = rewrite_fold_wide(new_ports + (__u32)~ports);
}

/* Corrects @check, which covers all that @flow changes. */
static __always_inline void rewrite_check(__sum16 *check, const struct flow *flow, bool udp)
{
	__u16 new;

	/* A datagram without a checksum stays without (RFC 768). */
	if (udp && !*check)
		return;
	new = ~rewrite_fold((__u64)(__u16) ~*check + flow->addr_diff + flow->port_diff);
	*check = udp && !new ? 0xffff : new;
}

/* The L4 checksum of @packet, TCP or UDP; NULL for others, and where it is cut off. */
static __always_inline __sum16 *rewrite_place(const struct __sk_buff *skb,
					      const struct packet *packet, const bool v6)
{
	void *l4 = packet_data(skb) + packet_l4_off(packet, v6);
	struct tcphdr *tcp = l4;
	struct udphdr *udp = l4;

	if (packet->key.proto == IPPROTO_TCP)
		return (void *)(tcp + 1) <= packet_end(skb) ? &tcp->check : NULL;
	if (packet->key.proto == IPPROTO_UDP)
		return (void *)(udp + 1) <= packet_end(skb) ? &udp->check : NULL;
	return NULL;
}

/* The L4 length of @packet as the pseudo header of its checksum has it, in network byte order. */
static __always_inline __be16 rewrite_length(const struct packet *packet, const void *l3,
					     const bool v6)
{
	const struct ipv6hdr *ip6 = l3;
	const struct iphdr *ip4 = l3;

	if (v6)
		return ip6->payload_len;
	return bpf_htons(bpf_ntohs(ip4->tot_len) + ETH_HLEN - packet->l4_off);
}

/*
 * Whether the L4 checksum of @packet, as it came, surely covers all of it. One that a device was to
 * finish (CHECKSUM_PARTIAL) covers the pseudo header alone, and cannot be told from one that
 * happens to have that value: for both the helper is asked. Of what pods send most is such, of what
 * a wire brings little; a merged packet is left to the helper in any case.
 */
static __always_inline bool rewrite_is_whole(const struct __sk_buff *skb,
					     const struct packet *packet, const bool v6)
{
	const __u32 l3_len = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const void *l3 = packet_data(skb) + ETH_HLEN;
	const struct flow_key *key = &packet->key;
	const __sum16 *check;
	__u64 sum;

	if (!FROM_WIRE || key->zone != ZONE_WIRE || skb->gso_size)
		return false;
	check = rewrite_place(skb, packet, v6);
	if (!check || l3 + l3_len > packet_end(skb))
		return false;
	if (v6)
		sum = rewrite_sum(&key->saddr) + rewrite_sum(&key->daddr);
	else
		sum = (__u64)key->saddr.w[3] + key->daddr.w[3];
	/* UDP's own length comes right before its checksum. */
	sum += key->proto == IPPROTO_UDP ? ((const __be16 *)check)[-1]
					 : rewrite_length(packet, l3, v6);
	sum += bpf_htons(key->proto);
	return *check && *check != rewrite_fold(sum);
}

/* Corrects the L4 checksum of a packet for which rewrite_is_whole(). Returns 0, or -1. */
static __always_inline int rewrite_whole(const struct __sk_buff *skb, const struct packet *packet,
					 const struct flow *flow, const bool v6)
{
	__sum16 *check = rewrite_place(skb, packet, v6);

	if (!check)
		return -1;
	rewrite_check(check, flow, packet->key.proto == IPPROTO_UDP);
	return 0;
}

/*
 * Has the kernel correct the L4 checksum of @packet, whatever it covers, after its ports were
 * written. Where no checksum in the packet makes up for those, a complete skb->csum is told of them
 * here. Returns 0, or -1.
 */
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

		bpf_csum_update(skb, port_diff);
		return change ? sctp_update(skb, packet->l4_off, change) : 0;
	}
	if (proto == IPPROTO_UDP) {
		__sum16 check;

		if (bpf_skb_load_bytes(skb, offset, &check, sizeof(check)))
			return -1;
		if (!check) {
			bpf_csum_update(skb, port_diff);
			return 0;
		}
	}
	if (addr_diff && bpf_l4_csum_replace(skb, offset, 0, addr_diff, BPF_F_PSEUDO_HDR | mangled))
		return -1;
	if (port_diff && bpf_l4_csum_replace(skb, offset, 0, port_diff, mangled))
		return -1;
	return 0;
}
