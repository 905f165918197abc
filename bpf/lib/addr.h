/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One 16-byte address for both families, so that maps and programs exist once.
 *
 * IPv4 is stored v4-mapped, ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
 */
#pragma once

#include "common.h"

/* Network byte order throughout. */
struct addr {
	union {
		__be32 w[4];
		__u64 d[2];
	};
};
_Static_assert(sizeof(struct addr) == 16, "addr is map ABI");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "halves are put together from words");

#define ADDR_V4_PREFIX bpf_htonl(0x0000ffff)

static __always_inline void addr_set_v4(struct addr *addr, __be32 v4)
{
	/* One store: two halves cannot be forwarded to the 8-byte loads that compare and hash it.
	 */
	addr->d[0] = 0;
	addr->d[1] = (__u64)v4 << 32 | ADDR_V4_PREFIX;
}

/* @v6 may be unaligned to eight bytes, as it is in a packet. */
static __always_inline void addr_set_v6(struct addr *addr, const __be32 *v6)
{
	addr->w[0] = v6[0];
	addr->w[1] = v6[1];
	addr->w[2] = v6[2];
	addr->w[3] = v6[3];
}

static __always_inline bool addr_is_v4(const struct addr *addr)
{
	return addr->d[0] == 0 && addr->w[2] == ADDR_V4_PREFIX;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->d[0] == b->d[0] && a->d[1] == b->d[1];
}

/* fe80::/10 */
static __always_inline bool addr_is_link_local(const struct addr *addr)
{
	return (addr->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/*
 * Whether no packet that a router forwards may come from @addr: "this" network, loopback, multicast
 * and the limited broadcast (RFC 1122 section 3.2.1.3); the unspecified, loopback, link-local and
 * multicast addresses (RFC 4291 section 2.5 to 2.7).
 */
static __always_inline bool addr_is_martian(const struct addr *addr)
{
	const __u32 first = bpf_ntohl(addr->w[0]);
	const __u32 last = bpf_ntohl(addr->w[3]);

	if (addr_is_v4(addr))
		return last >> 24 == 0 || last >> 24 == 127 || last >> 28 == 14 || !~last;
	return first >> 24 == 0xff || addr_is_link_local(addr) ||
	       (!addr->d[0] && !addr->w[2] && last <= 1);
}

static __always_inline bool addr_is_zero(const struct addr *addr)
{
	return !(addr->d[0] | addr->d[1]);
}
