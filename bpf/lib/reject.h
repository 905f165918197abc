/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tells the sender at once what became of its packet: ICMP port unreachable, time exceeded, too big
 * (RFC 792, RFC 4443), sent back out of the device the packet came from, or up to the host's stack.
 */
#pragma once

#include "output.h"

#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_TIME_EXCEEDED 11
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_TIME_EXCEED 3

#define REJECT_TTL 64

/* Answers a CPU may send in one tick; beyond, the packet is dropped in silence. */
#define REJECTS_PER_TICK 1024

/* Quoted L4 bytes: ports and sequence, and for TCP up to the checksum field that must be kept. */
#define REJECT_QUOTE_TCP 20
#define REJECT_QUOTE_UDP 8

enum reject_why {
	REJECT_NO_ENDPOINTS,
	REJECT_UNKNOWN_PORT,
	REJECT_TTL_EXPIRED,
	REJECT_TOO_BIG,
};

struct reject_v4 {
	struct iphdr ip;
	struct icmphdr icmp;
	struct iphdr quoted;
	__u8 l4[REJECT_QUOTE_TCP];
};

struct reject_v6 {
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 info;
	struct ipv6hdr quoted;
	__u8 l4[REJECT_QUOTE_TCP];
};

/*
 * Sets the quoted L4 checksum so that the quoted header sums to the same whether or not the stack
 * will fill it in on the way out: a partial checksum makes it replace the field F by ~(R + F), R
 * being the rest of the header, after which the header sums to -F. R + F = -F holds for
 * F = -R / 2 modulo 65535, where halving is multiplying by 2^15. Nobody verifies a quoted checksum.
 */
static __always_inline void reject_fix_quote(__u8 *l4, __u8 proto)
{
	__be16 *check = (__be16 *)(l4 + (proto == IPPROTO_TCP ? 16 : 6));
	const __u32 length = proto == IPPROTO_TCP ? REJECT_QUOTE_TCP : REJECT_QUOTE_UDP;
	__u16 rest;

	/* SCTP's CRC lies behind its quote. */
	if (proto == IPPROTO_SCTP)
		return;
	*check = 0;
	if (length == REJECT_QUOTE_TCP)
		rest = rewrite_fold(bpf_csum_diff(NULL, 0, (void *)l4, REJECT_QUOTE_TCP, 0));
	else
		rest = rewrite_fold(bpf_csum_diff(NULL, 0, (void *)l4, REJECT_QUOTE_UDP, 0));
	*check = ((__u32)(__u16)~rest << 15) % 65535;
}

static __always_inline int reject_swap_macs(struct __sk_buff *skb)
{
	__u8 dmac[ETH_ALEN], smac[ETH_ALEN];
	void *data = packet_data(skb);
	struct ethhdr *eth = data;

	if (data + ETH_HLEN > packet_end(skb))
		return -1;
	__builtin_memcpy(dmac, eth->h_source, ETH_ALEN);
	__builtin_memcpy(smac, eth->h_dest, ETH_ALEN);
	return rewrite_macs(skb, dmac, smac);
}

/*
 * How much of L4 is quoted. What follows an IPv6 header that is a fragment header must be long
 * enough for the ports behind it.
 */
static __always_inline bool reject_is_wide(const struct packet *packet, const bool v6)
{
	return packet->key.proto == IPPROTO_TCP || (v6 && packet->fragment);
}

/* Reads the @header bytes of the IP header, and what is quoted behind it. Returns 0, or -1. */
static __always_inline int reject_read(struct __sk_buff *skb, const struct packet *packet,
				       void *quoted, const __u32 header, __u8 *l4, bool wide)
{
	if (bpf_skb_load_bytes(skb, ETH_HLEN, quoted, header))
		return -1;
	if (wide ? bpf_skb_load_bytes(skb, ETH_HLEN + header, l4, REJECT_QUOTE_TCP)
		 : bpf_skb_load_bytes(skb, ETH_HLEN + header, l4, REJECT_QUOTE_UDP))
		return -1;
	if (!packet->fragment)
		reject_fix_quote(l4, packet->key.proto);
	return 0;
}

/* Puts @out, @size bytes with a wide quote, in the packet's place. Returns 0, or -1. */
static __always_inline int reject_write(struct __sk_buff *skb, const void *out, const __u32 size,
					const __u32 header, bool wide)
{
	const __u32 quote = wide ? REJECT_QUOTE_TCP : REJECT_QUOTE_UDP;
	const __u32 grow = size - header - REJECT_QUOTE_TCP;

	if (bpf_skb_change_tail(skb, ETH_HLEN + header + quote, 0) ||
	    bpf_skb_adjust_room(skb, grow, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	if (wide ? bpf_skb_store_bytes(skb, ETH_HLEN, out, size, BPF_F_RECOMPUTE_CSUM)
		 : bpf_skb_store_bytes(skb, ETH_HLEN, out,
				       size - REJECT_QUOTE_TCP + REJECT_QUOTE_UDP,
				       BPF_F_RECOMPUTE_CSUM))
		return -1;
	return reject_swap_macs(skb);
}

static __noinline int reject_build_v4(struct __sk_buff *skb, const struct packet *packet, __u32 why,
				      __u16 mtu)
{
	const __u32 grow = sizeof(struct iphdr) + sizeof(struct icmphdr);
	const bool wide = reject_is_wide(packet, false);
	const __u32 quote = wide ? REJECT_QUOTE_TCP : REJECT_QUOTE_UDP;
	struct reject_v4 out = {};

	/* Options are left out of the quote's reach: such packets are rare and simply dropped. */
	if (packet->l4_off != ETH_HLEN + sizeof(struct iphdr))
		return -1;
	if (reject_read(skb, packet, &out.quoted, sizeof(out.quoted), out.l4, wide))
		return -1;

	out.ip.version = 4;
	out.ip.ihl = 5;
	out.ip.tot_len = bpf_htons(grow + sizeof(struct iphdr) + quote);
	out.ip.ttl = REJECT_TTL;
	out.ip.protocol = IPPROTO_ICMP;
	out.ip.saddr = out.quoted.daddr;
	out.ip.daddr = out.quoted.saddr;
	out.ip.check = ~rewrite_fold(bpf_csum_diff(NULL, 0, (void *)&out.ip, sizeof(out.ip), 0));

	out.icmp.type = why == REJECT_TTL_EXPIRED ? ICMP_TIME_EXCEEDED : ICMP_DEST_UNREACH;
	if (why == REJECT_NO_ENDPOINTS || why == REJECT_UNKNOWN_PORT)
		out.icmp.code = ICMP_PORT_UNREACH;
	if (why == REJECT_TOO_BIG) {
		out.icmp.code = ICMP_FRAG_NEEDED;
		out.icmp.un.frag.mtu = bpf_htons(mtu);
	}
	/* What lies behind a short quote is zero and adds nothing. */
	out.icmp.checksum = ~rewrite_fold(
		bpf_csum_diff(NULL, 0, (void *)&out.icmp, sizeof(out) - sizeof(out.ip), 0));

	return reject_write(skb, &out, sizeof(out), sizeof(out.quoted), wide);
}

static __noinline int reject_build_v6(struct __sk_buff *skb, const struct packet *packet, __u32 why,
				      __u32 mtu)
{
	const __u32 grow = offsetof(struct reject_v6, quoted);
	const bool wide = reject_is_wide(packet, true);
	const __u32 quote = wide ? REJECT_QUOTE_TCP : REJECT_QUOTE_UDP;
	__be32 pseudo[2] = {};
	struct reject_v6 out = {};
	__u32 sum;

	if (reject_read(skb, packet, &out.quoted, sizeof(out.quoted), out.l4, wide))
		return -1;

	out.ip.version = 6;
	out.ip.payload_len = bpf_htons(grow + quote);
	out.ip.nexthdr = IPPROTO_ICMPV6;
	out.ip.hop_limit = REJECT_TTL;
	out.ip.saddr = out.quoted.daddr;
	out.ip.daddr = out.quoted.saddr;

	out.type = ICMPV6_DEST_UNREACH;
	if (why == REJECT_NO_ENDPOINTS || why == REJECT_UNKNOWN_PORT)
		out.code = ICMPV6_PORT_UNREACH;
	if (why == REJECT_TTL_EXPIRED)
		out.type = ICMPV6_TIME_EXCEED;
	if (why == REJECT_TOO_BIG) {
		out.type = ICMPV6_PKT_TOOBIG;
		out.info = bpf_htonl(mtu);
	}

	pseudo[0] = bpf_htonl(grow - sizeof(struct ipv6hdr) + sizeof(struct ipv6hdr) + quote);
	pseudo[1] = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(NULL, 0, (void *)&out.ip.saddr, 2 * sizeof(out.ip.saddr), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)pseudo, sizeof(pseudo), sum);
	sum = bpf_csum_diff(NULL, 0, (void *)&out.type, sizeof(out) - sizeof(out.ip), sum);
	out.check = ~rewrite_fold(sum);

	return reject_write(skb, &out, sizeof(out), sizeof(out.quoted), wide);
}

/*
 * Answers the sender of scratch->packet, or drops in silence where that cannot be done. @why is an
 * enum reject_why. Returns the verdict, counted by @why either way.
 */
__noinline int reject_send(struct __sk_buff *skb, __u32 why, __u32 mtu)
{
	const enum outcome outcome = why == REJECT_NO_ENDPOINTS	  ? OUTCOME_REJECTED
				     : why == REJECT_UNKNOWN_PORT ? DROP_UNKNOWN_PORT
				     : why == REJECT_TTL_EXPIRED  ? DROP_TTL
								  : DROP_TOO_BIG;
	struct scratch *scratch = scratch_get();
	const struct packet *packet;
	bool up;

	if (!scratch)
		return verdict_drop(outcome);
	packet = &scratch->packet;
	up = packet->key.zone == ZONE_HOST;
	if (!budget_take(BUDGET_REJECTS, REJECTS_PER_TICK))
		return verdict_drop(outcome);
	if (addr_is_v4(&packet->key.saddr) ? reject_build_v4(skb, packet, why, mtu)
					   : reject_build_v6(skb, packet, why, mtu))
		return verdict_drop(outcome);

	skb->tc_index = OUTPUT_FINISHED;
	return verdict(outcome, bpf_redirect(skb->ifindex, up ? BPF_F_INGRESS : 0));
}

static __always_inline int reject(struct __sk_buff *skb, const struct packet *packet,
				  enum reject_why why, __u32 mtu)
{
	if (!scratch_put(packet))
		return verdict_drop(DROP_FLOWS_FULL);
	return reject_send(skb, why, mtu);
}
