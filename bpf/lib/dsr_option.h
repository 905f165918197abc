/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The option that tells a backend's node which service address a packet was sent to.
 *
 * The own form names the client's original port, which the LB node changes where one port comes
 * through two service addresses, and has a tag that only holders of the key can make. The plain
 * form is what others send. All fields are in network byte order; the length tells the forms apart.
 */
#pragma once

#include "config.h"
#include "scratch.h"
#include "siphash.h"

/* RFC 791 section 3.1: copied into fragments, class 0, number 26. */
#define DSR_OPTION_V4 0x9a
/* RFC 8200 section 4.2: skipped by who does not know it, does not change on the way. */
#define DSR_OPTION_V6 0x1b

#ifndef IPPROTO_DSTOPTS
#define IPPROTO_DSTOPTS 60
#endif

#define DSR_TAG_V4 6 /* bytes of the tag that IPv4's option has room for */

/* The plain form ends before client_port. */
struct dsr_option_v4 {
	__u8 type;
	__u8 length;
	__be16 port;
	__be32 vip;
	__be16 client_port;
	__u8 tag[DSR_TAG_V4];
};
_Static_assert(sizeof(struct dsr_option_v4) == 16, "what the wire carries");
#define DSR_PLAIN_V4 8

/* A destination options header with nothing else in it. The plain form ends before tag, and has
 * zero for client_port. */
struct dsr_option_v6 {
	__u8 nexthdr;
	__u8 words; /* of 8 bytes, the first not counted */
	__u8 type;
	__u8 length; /* of what follows */
	__be32 vip[4];
	__be16 port;
	__be16 client_port;
	__u8 tag[8];
};
_Static_assert(sizeof(struct dsr_option_v6) == 32, "what the wire carries");
#define DSR_PLAIN_V6 24

#define IPV4_HEADER_MAX 60

/* Bytes that the option of packets this node sends takes. */
static __always_inline __u32 dsr_option_size(const bool v6)
{
	if (v6)
		return CONFIG.dsr_plain_out ? DSR_PLAIN_V6 : sizeof(struct dsr_option_v6);
	return CONFIG.dsr_plain_out ? DSR_PLAIN_V4 : sizeof(struct dsr_option_v4);
}

/* Bytes of the Geneve option (dsr_geneve.h). */
#define DSR_GENEVE_V4 20
#define DSR_GENEVE_V6 32
#define DSR_GENEVE_TAG 8

static __always_inline __u32 dsr_geneve_size(const bool v6)
{
	return (v6 ? DSR_GENEVE_V6 : DSR_GENEVE_V4) - (CONFIG.dsr_plain_out ? DSR_GENEVE_TAG : 0);
}

/* IPv6, UDP, Geneve and inner Ethernet headers. The outer family is the node's: the larger one
 * counts. */
#define DSR_GENEVE_OUTER 70

/* TTL of what is put around a packet. */
#define DSR_OUTER_TTL 64

/* IP and TCP headers without options, and the smallest segment that everyone must take. */
#define DSR_TCP_V4 40
#define DSR_TCP_V6 60
#define DSR_MSS_MIN 88

/* Bytes that dispatching adds to a packet, as far as the egress device's MTU is concerned. */
static __always_inline __u32 dsr_overhead(const bool v6)
{
	switch (CONFIG.dsr_dispatch) {
	case DSR_OPTION:
		return dsr_option_size(v6);
	case DSR_IPIP:
		return v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	case DSR_GENEVE:
		return DSR_GENEVE_OUTER + dsr_geneve_size(v6);
	default:
		return 0;
	}
}

/* Whether @packet's header has room for the option. Extension headers have no limit. */
static __always_inline bool dsr_has_room(const struct packet *packet, const bool v6)
{
	return v6 || CONFIG.dsr_dispatch != DSR_OPTION ||
	       packet->l4_off - ETH_HLEN + dsr_option_size(false) <= IPV4_HEADER_MAX;
}

/* Of settings: the first signs, each is good. */
#define DSR_KEYS 2

static __always_inline bool dsr_has_key(const struct settings *settings, const __u32 which)
{
	return settings->dsr_keys[which][0] | settings->dsr_keys[which][1];
}

/* Whether this node knows what packets that it dispatches must say of it. */
static __always_inline bool dsr_ready(const bool v6)
{
	const struct settings *settings = settings_get();

	if (!settings || (CONFIG.dsr_dispatch == DSR_GENEVE && !settings->geneve_ifindex))
		return false;
	if (CONFIG.dsr_plain_out)
		return true;
	if (CONFIG.dsr_dispatch == DSR_IPIP)
		return v6 ? !addr_is_zero(&settings->dsr_source_v6)
			  : !addr_is_zero(&settings->dsr_source_v4);
	return dsr_has_key(settings, 0);
}

/*
 * The tag of @mark on a packet with the addresses and ports of @key, those between client and
 * backend: SipHash over the addresses of service, client and backend, the ports of service and
 * client, the packet's ports, and the protocol.
 */
static __always_inline __u64 dsr_tag(const struct flow_key *key, const struct dsr_mark *mark,
				     const __u64 secret[2], const bool v6)
{
	const __u64 mark_ports = mark->port | (__u32)mark->client_port << 16;
	const __u64 ports = key->sport | (__u32)key->dport << 16;
	struct siphash state;

	siphash_start(&state, secret[0], secret[1]);
	if (v6) {
		siphash_add(&state, mark->vip.d[0]);
		siphash_add(&state, mark->vip.d[1]);
		siphash_add(&state, key->saddr.d[0]);
		siphash_add(&state, key->saddr.d[1]);
		siphash_add(&state, key->daddr.d[0]);
		siphash_add(&state, key->daddr.d[1]);
		siphash_add(&state, mark_ports | ports << 32);
		return siphash_finish(&state, key->proto, 57);
	}
	siphash_add(&state, mark->vip.w[3] | (__u64)key->saddr.w[3] << 32);
	siphash_add(&state, key->daddr.w[3] | mark_ports << 32);
	return siphash_finish(&state, ports | (__u64)key->proto << 32, 21);
}

/*
 * The option's words as they have to be in memory, the second zero in the plain form: put together
 * in registers, for a load that spans several stores waits for all of them.
 */
static __always_inline void dsr_words_v4(const struct flow_key *key, const struct dsr_mark *mark,
					 __u64 words[2])
{
	const __u64 length = CONFIG.dsr_plain_out ? DSR_PLAIN_V4 : sizeof(struct dsr_option_v4);

	words[0] =
		DSR_OPTION_V4 | length << 8 | (__u64)mark->port << 16 | (__u64)mark->vip.w[3] << 32;
	words[1] = 0;
	if (!CONFIG.dsr_plain_out) {
		const struct settings *settings = settings_get();
		const __u64 tag = settings ? dsr_tag(key, mark, settings->dsr_keys[0], false) : 0;

		words[1] = mark->client_port | tag << 16;
	}
}

/* What dsr_words_v4() add to a checksum, not folded. */
static __always_inline __u64 dsr_words_sum(const __u64 words[2])
{
	return (words[0] & 0xffffffff) + (words[0] >> 32) + (words[1] & 0xffffffff) +
	       (words[1] >> 32);
}

static __always_inline void dsr_write_v6(struct dsr_option_v6 *option, const struct flow_key *key,
					 const struct dsr_mark *mark)
{
	const __u32 size = dsr_option_size(true);

	option->nexthdr = key->proto;
	option->words = size / 8 - 1;
	option->type = DSR_OPTION_V6;
	option->length = size - 4;
	__builtin_memcpy(option->vip, &mark->vip, sizeof(option->vip));
	option->port = mark->port;
	option->client_port = 0;
	if (!CONFIG.dsr_plain_out) {
		const struct settings *settings = settings_get();
		const __u64 tag = settings ? dsr_tag(key, mark, settings->dsr_keys[0], true) : 0;

		option->client_port = mark->client_port;
		__builtin_memcpy(option->tag, &tag, sizeof(option->tag));
	}
}
