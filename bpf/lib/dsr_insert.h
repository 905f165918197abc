/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Puts the DSR option into an skb that already carries its flow's rewrite. */
#pragma once

#include "dsr_option.h"
#include "rewrite.h"
#include "scratch.h"

/*
 * What bpf_skb_adjust_room() is to do with segments: those of TCP become smaller by what the header
 * grows, datagrams stay what they are.
 */
static __always_inline __u64 dsr_room_flags(__u8 proto)
{
	return BPF_F_ADJ_ROOM_NO_CSUM_RESET | (proto == IPPROTO_TCP ? 0 : BPF_F_ADJ_ROOM_FIXED_GSO);
}

/*
 * Makes the IPv4 header, which has @grow bytes of options more, or less, say so. @sum: of what
 * came, or the complement of what went. Returns 0, or -1.
 */
static __always_inline int dsr_resize_v4(struct __sk_buff *skb, const __s32 grow, __u32 sum)
{
	void *data = packet_data(skb);
	struct iphdr *ip = data + ETH_HLEN;
	__u64 check;

	if ((void *)(ip + 1) > packet_end(skb))
		return -1;
	/* Both fields and the options count for the header's own checksum, and there it ends. */
	check = (__u64)(__u16)~ip->check + (__u16) ~*(__u16 *)ip + (__u16)~ip->tot_len;
	ip->ihl += grow / 4;
	ip->tot_len = bpf_htons(bpf_ntohs(ip->tot_len) + grow);
	check += *(__u16 *)ip + (__u64)ip->tot_len + sum;
	ip->check = ~rewrite_fold(check);
	return 0;
}

static __always_inline int dsr_insert_v4(struct __sk_buff *skb, const struct flow_key *key,
					 const struct dsr_mark *mark)
{
	const __u32 size = dsr_option_size(false);
	__u64 option[2];

	dsr_words_v4(key, mark, option);
	if (bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_NET, dsr_room_flags(key->proto)) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct iphdr), option, size, 0))
		return -1;
	return dsr_resize_v4(skb, size, rewrite_fold(dsr_words_sum(option)));
}

/* The fields of an IPv6 header that say what follows. */
struct dsr_ipv6_next {
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
};

static __always_inline int dsr_insert_v6(struct __sk_buff *skb, const struct flow_key *key,
					 const struct dsr_mark *mark)
{
	const __u32 at = ETH_HLEN + offsetof(struct ipv6hdr, payload_len);
	const __u32 size = dsr_option_size(true);
	struct dsr_option_v6 option = {};
	struct dsr_ipv6_next next;

	dsr_write_v6(&option, key, mark);
	if (bpf_skb_load_bytes(skb, at, &next, sizeof(next)))
		return -1;
	next.payload_len = bpf_htons(bpf_ntohs(next.payload_len) + size);
	next.nexthdr = IPPROTO_DSTOPTS;
	/* No header checksum makes up for it: a complete skb->csum has to follow. */
	if (bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_NET, dsr_room_flags(key->proto)) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &option, size,
				BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_store_bytes(skb, at, &next, sizeof(next), BPF_F_RECOMPUTE_CSUM))
		return -1;
	return 0;
}
