/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bounds-checked parsing of what an skb carries into the key of the flow table.
 *
 * @v6 is a constant at every call: one source for both families, constant offsets in each.
 */
#pragma once

#include "addr.h"
#include "flow.h"

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

/* The byte whose upper half is the length of the TCP header in words of 4 bytes. */
#define TCP_WORDS_OFFSET 12

#define TCP_FLAGS_OFFSET 13

#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_RST 0x04
#define TCP_FLAG_ACK 0x10

enum parsed {
	PARSED_SHORT = 0, /* headers are cut short or contradict each other */
	PARSED_L3 = 1,	  /* addresses only: a fragment, or a protocol without ports */
	PARSED_L4 = 2,	  /* addresses and ports */
};

struct packet {
	struct flow_key key;
	__u32 l4_off;
	__u8 ttl;
	__u8 tcp_flags; /* the byte from the header; 0 for other protocols */
	__u8 fragment;
	__u8 pad;
	__u32 service; /* whose it is, once that is known */
};

/*
 * The packet's bounds. Read in assembly: the compiler likes to compute the address of such a field
 * once for several reads, and the verifier refuses arithmetic on the context.
 */
static __always_inline void *packet_data(const struct __sk_buff *skb)
{
	void *data;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(data)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return data;
}

static __always_inline void *packet_end(const struct __sk_buff *skb)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(end)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return end;
}

/* Makes the first @len bytes linear and readable. Headers may sit in a page on some drivers. */
static __always_inline bool packet_pull(struct __sk_buff *skb, __u32 len)
{
	if (packet_data(skb) + len <= packet_end(skb))
		return true;
	return bpf_skb_pull_data(skb, len) == 0;
}

/*
 * Where L4 starts. The mask loses nothing (an IPv4 header is at most 60 bytes) and gives the
 * verifier its bound back after a call that could have written to @packet.
 */
static __always_inline __u32 packet_l4_off(const struct packet *packet, const bool v6)
{
	return v6 ? ETH_HLEN + sizeof(struct ipv6hdr) : packet->l4_off & 0x7f;
}

/* Offset of the checksum in the L4 header, or 0 for a protocol that has none we can update. */
static __always_inline __u32 packet_csum_offset(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return offsetof(struct udphdr, check);
	default:
		return 0;
	}
}

static __always_inline enum parsed packet_parse_l4(struct __sk_buff *skb, struct packet *packet)
{
	const __u32 need =
		packet->key.proto == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	void *data, *data_end;
	__be16 *ports;

	if (packet->key.proto != IPPROTO_TCP && packet->key.proto != IPPROTO_UDP &&
	    packet->key.proto != IPPROTO_SCTP)
		return PARSED_L3;

	if (!packet_pull(skb, packet->l4_off + need))
		return PARSED_SHORT;
	data = packet_data(skb);
	data_end = packet_end(skb);

	ports = data + packet->l4_off;
	if ((void *)ports + sizeof(struct udphdr) > data_end)
		return PARSED_SHORT;
	packet->key.sport = ports[0];
	packet->key.dport = ports[1];

	if (packet->key.proto == IPPROTO_TCP) {
		if ((void *)ports + sizeof(struct tcphdr) > data_end)
			return PARSED_SHORT;
		packet->tcp_flags = ((__u8 *)ports)[TCP_FLAGS_OFFSET];
	}
	return PARSED_L4;
}

static __always_inline enum parsed packet_parse_v4(struct __sk_buff *skb, struct packet *packet)
{
	void *data, *data_end;
	struct iphdr *ip;
	__u32 ihl;

	if (!packet_pull(skb, ETH_HLEN + sizeof(*ip)))
		return PARSED_SHORT;
	data = packet_data(skb);
	data_end = packet_end(skb);
	ip = data + ETH_HLEN;
	if ((void *)(ip + 1) > data_end || ip->version != 4 || ip->ihl < 5)
		return PARSED_SHORT;

	ihl = ip->ihl * 4;
	addr_set_v4(&packet->key.saddr, ip->saddr);
	addr_set_v4(&packet->key.daddr, ip->daddr);
	packet->key.proto = ip->protocol;
	packet->ttl = ip->ttl;
	packet->l4_off = ETH_HLEN + ihl;
	packet->fragment = !!(ip->frag_off & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS));
	if (packet->fragment)
		return PARSED_L3;
	return packet_parse_l4(skb, packet);
}

static __always_inline enum parsed packet_parse_v6(struct __sk_buff *skb, struct packet *packet)
{
	void *data, *data_end;
	struct ipv6hdr *ip;

	if (!packet_pull(skb, ETH_HLEN + sizeof(*ip)))
		return PARSED_SHORT;
	data = packet_data(skb);
	data_end = packet_end(skb);
	ip = data + ETH_HLEN;
	if ((void *)(ip + 1) > data_end || ip->version != 6)
		return PARSED_SHORT;

	addr_set_v6(&packet->key.saddr, ip->saddr.in6_u.u6_addr32);
	addr_set_v6(&packet->key.daddr, ip->daddr.in6_u.u6_addr32);
	packet->key.proto = ip->nexthdr;
	packet->ttl = ip->hop_limit;
	packet->l4_off = ETH_HLEN + sizeof(*ip);
	packet->fragment = ip->nexthdr == IPPROTO_FRAGMENT;
	return packet_parse_l4(skb, packet);
}

static __always_inline enum parsed packet_parse(struct __sk_buff *skb, struct packet *packet,
						const bool v6)
{
	return v6 ? packet_parse_v6(skb, packet) : packet_parse_v4(skb, packet);
}

/* Whether @packet opens something: a SYN without ACK, or any datagram. */
static __always_inline bool packet_opens(const struct packet *packet)
{
	if (packet->key.proto != IPPROTO_TCP)
		return true;
	return (packet->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;
}
