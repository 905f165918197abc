/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Lowers the maximum segment size that a SYN announces (RFC 9293 section 3.7.1). */
#pragma once

#include "packet.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_LENGTH 4

/* A header has at most 40 bytes of options; more steps than this only padding would take. */
#define MSS_STEPS 16

/*
 * The SYN whose TCP header is at @l4_off announces no more than @mss afterwards. It is left as it
 * is where its options cannot be read.
 */
__noinline int mss_clamp(struct __sk_buff *skb, __u32 l4_off, __u32 mss)
{
	const __u32 check = l4_off + offsetof(struct tcphdr, check);
	__u32 at = l4_off + sizeof(struct tcphdr), end;
	__u8 words;

	if (bpf_skb_load_bytes(skb, l4_off + TCP_WORDS_OFFSET, &words, sizeof(words)))
		return 0;
	end = l4_off + (words >> 4) * 4;
	for (int i = 0; i < MSS_STEPS; i++) {
		__be16 before, after;
		__u8 option[TCP_OPTION_MSS_LENGTH];
		__u32 announced;

		if (at + 1 > end || bpf_skb_load_bytes(skb, at, option, 1))
			return 0;
		if (option[0] == TCP_OPTION_END)
			return 0;
		if (option[0] == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (at + 2 > end || bpf_skb_load_bytes(skb, at, option, 2) || option[1] < 2)
			return 0;
		if (option[0] != TCP_OPTION_MSS) {
			at += option[1];
			continue;
		}
		if (option[1] != TCP_OPTION_MSS_LENGTH || at + TCP_OPTION_MSS_LENGTH > end ||
		    bpf_skb_load_bytes(skb, at, option, sizeof(option)))
			return 0;
		announced = (__u32)option[2] << 8 | option[3];
		if (announced <= mss)
			return 0;
		before = bpf_htons(announced);
		after = bpf_htons(mss);
		if (bpf_skb_store_bytes(skb, at + 2, &after, sizeof(after), 0))
			return 0;
		/* Behind an odd number of padding bytes it lies across two words of the sum. */
		if ((at - l4_off) & 1) {
			before = __builtin_bswap16(before);
			after = __builtin_bswap16(after);
		}
		return bpf_l4_csum_replace(skb, check, before, after, sizeof(after));
	}
	return 0;
}
