/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SCTP's checksum, a CRC32c of the whole packet (RFC 9260 section 6.8), after its ports changed.
 *
 * A CRC is linear: what changes in it is the CRC of the change alone, the ports' difference and
 * zeros behind it. A zero bit multiplies the remainder by x, so nothing but the length of the
 * packet is needed, and with x^8, x^16, x^32 and so on at hand each bit of the length is one step.
 */
#pragma once

#include "common.h"

#define SCTP_CHECKSUM 8 /* offset of the field */
#define SCTP_HEADER 12

#define CRC32C_POLYNOMIAL 0x82f63b78 /* bits in reverse: x^0 is the highest */
#define CRC32C_ONE 0x80000000

/* x^(8 * 2^i) modulo the polynomial: 2^i zero bytes. */
static const volatile __u32 crc32c_zeros[16] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a,
	0xb82be955, 0xb8fdb1e7, 0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a,
	0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
};

/* All ones where @bit is 1. The compiler must not see through it: the verifier would walk every
 * branch that it makes of such a mask. */
static __always_inline __u32 crc32c_mask(__u32 bit)
{
	__u32 mask = -bit;

	barrier_var(mask);
	return mask;
}

/* The product of two remainders. Verified once, not for each bit of a length. */
__noinline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & crc32c_mask(a >> 31);
		a <<= 1;
		b = (b >> 1) ^ (CRC32C_POLYNOMIAL & crc32c_mask(b & 1));
	}
	return product;
}

/*
 * What is to be added to the CRC of @length bytes whose first four changed by @change, the
 * exclusive or of both as they lie in memory.
 */
__noinline __u32 crc32c_change(__u32 change, __u32 length)
{
	for (__u32 i = 0; i < 16; i++) {
		const __u32 used = crc32c_mask((length >> i) & 1);

		change = crc32c_multiply(change, (crc32c_zeros[i] & used) | (CRC32C_ONE & ~used));
	}
	return change;
}

/*
 * Corrects the checksum of the SCTP packet at @l4_off, whose ports were changed by @change. Returns
 * 0, or -1.
 *
 * A packet of a local sender has none yet (CHECKSUM_PARTIAL): the field is zero, and whoever fills
 * it in counts on that.
 */
__noinline int sctp_update(struct __sk_buff *skb, __u32 l4_off, __u32 change)
{
	const bool v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	__u32 check, length;
	__be16 total;

	if (bpf_skb_load_bytes(skb, l4_off + SCTP_CHECKSUM, &check, sizeof(check)))
		return -1;
	if (!check)
		return 0;
	/* Not the frame's length, which padding may be part of. */
	if (bpf_skb_load_bytes(skb,
			       ETH_HLEN + (v6 ? offsetof(struct ipv6hdr, payload_len)
					      : offsetof(struct iphdr, tot_len)),
			       &total, sizeof(total)))
		return -1;
	length = bpf_ntohs(total) + ETH_HLEN + (v6 ? sizeof(struct ipv6hdr) : 0) - l4_off;
	/* Cut short, or of a length below its own header's: the checksum is right for no change. */
	if (length > skb->len - l4_off)
		return -1;
	check ^= crc32c_change(change, length);
	return bpf_skb_store_bytes(skb, l4_off + SCTP_CHECKSUM, &check, sizeof(check),
				   BPF_F_RECOMPUTE_CSUM);
}
