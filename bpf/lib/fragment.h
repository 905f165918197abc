/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments (RFC 791, RFC 8200 section 4.5): only the first of a datagram has ports. It leaves them
 * here, where the later ones find them.
 *
 * Every first fragment does, translated or not, so that a later one that finds nothing is known to
 * have come too early.
 */
#pragma once

#include "clock.h"
#include "map_update.h"
#include "scratch.h"

#define FRAGMENTS_MAX 8192

/* Ticks after which an identification may be another datagram's: the stack waits 30 s (Linux). */
#define FRAGMENT_LIFE 28

#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_OFFSET_MASK 0xfff8

struct fragment_key {
	struct addr saddr;
	struct addr daddr;
	__u32 id; /* as in the header */
	__u8 proto;
	__u8 zone; /* enum flow_zone */
	__u16 pad;
};
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key is map ABI");

struct fragment {
	__be16 sport;
	__be16 dport;
	__u32 seen; /* ticks (clock.h) */
};
_Static_assert(sizeof(struct fragment) == 8, "fragment is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(max_entries, FRAGMENTS_MAX);
} fragments SEC(".maps");

struct fragment_header {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

enum fragment_place {
	FRAGMENT_NONE,	/* no fragment of anything that has ports */
	FRAGMENT_FIRST, /* has the ports */
	FRAGMENT_LATER,
};

/*
 * Reads which fragment scratch->packet is, and corrects its protocol and l4_off where IPv6 has them
 * behind the fragment header. Fills @key.
 */
static __always_inline enum fragment_place
fragment_read(struct __sk_buff *skb, struct packet *packet, struct fragment_key *key)
{
	bool later;

	*key = (struct fragment_key){
		.saddr = packet->key.saddr,
		.daddr = packet->key.daddr,
		.zone = packet->key.zone,
	};
	if (addr_is_v4(&packet->key.saddr)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
			return FRAGMENT_NONE;
		key->id = ip.id;
		later = ip.frag_off & bpf_htons(IP_OFFSET_MASK);
	} else {
		struct fragment_header header;

		if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &header,
				       sizeof(header)))
			return FRAGMENT_NONE;
		key->id = header.id;
		later = header.offset & bpf_htons(IPV6_OFFSET_MASK);
		packet->key.proto = header.nexthdr;
		packet->l4_off = ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(header);
	}
	key->proto = packet->key.proto;
	switch (key->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return later ? FRAGMENT_LATER : FRAGMENT_FIRST;
	default:
		return FRAGMENT_NONE;
	}
}

/* Reads the ports of a first fragment. One that ends before them is nobody's. */
static __always_inline bool fragment_ports(struct __sk_buff *skb, struct packet *packet)
{
	__be16 ports[2];
	__u8 flags;

	if (bpf_skb_load_bytes(skb, packet->l4_off, ports, sizeof(ports)))
		return false;
	packet->key.sport = ports[0];
	packet->key.dport = ports[1];
	if (packet->key.proto != IPPROTO_TCP)
		return true;
	if (bpf_skb_load_bytes(skb, packet->l4_off + TCP_FLAGS_OFFSET, &flags, sizeof(flags)))
		return false;
	packet->tcp_flags = flags;
	return true;
}

static __always_inline void fragment_record(const struct fragment_key *key,
					    const struct packet *packet)
{
	const struct fragment fragment = {
		.sport = packet->key.sport,
		.dport = packet->key.dport,
		.seen = clock_ticks(),
	};

	map_update(&fragments, key, &fragment, BPF_ANY);
}

/* Gives a later fragment the ports of its first. False when that was not seen. */
static __always_inline bool fragment_find(const struct fragment_key *key, struct packet *packet)
{
	const struct fragment *fragment = bpf_map_lookup_elem(&fragments, key);

	if (!fragment || (__s32)(clock_ticks() - fragment->seen) > FRAGMENT_LIFE)
		return false;
	packet->key.sport = fragment->sport;
	packet->key.dport = fragment->dport;
	return true;
}
