/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The backend node's part of direct server return by option: packets that carry one for a backend
 * of this node.
 */
#pragma once

#include "dsr_insert.h"
#include "dsr_unmark.h"
#include "report.h"

/* Whether @tag, of which @size bytes were carried, is one that @mark must have. */
static __always_inline bool dsr_genuine(const struct flow_key *key, const struct dsr_mark *mark,
					const __u8 *tag, const __u32 size, const bool v6)
{
	const struct settings *settings = settings_get();
	__u64 carried = 0;

	__builtin_memcpy(&carried, tag, size);
	if (!settings)
		return false;
	for (__u32 i = 0; i < DSR_KEYS; i++) {
		const __u64 right = dsr_tag(key, mark, settings->dsr_keys[i], v6);

		if (!((right ^ carried) << (64 - 8 * size)) && dsr_has_key(settings, i))
			return true;
	}
	return false;
}

/* The ports of @packet, whose L4 header is at @l4, where it is one that LB nodes dispatch. */
static __always_inline bool dsr_parse_ports(struct __sk_buff *skb, struct packet *packet, __u32 l4,
					    __u8 proto)
{
	__be16 ports[2];

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP && proto != IPPROTO_SCTP)
		return true;
	if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
		return false;
	packet->key.sport = ports[0];
	packet->key.dport = ports[1];
	return proto != IPPROTO_TCP ||
	       !bpf_skb_load_bytes(skb, l4 + TCP_FLAGS_OFFSET, &packet->tcp_flags, 1);
}

/*
 * Reads the option of scratch->packet into scratch->mark. Returns its size on the wire, the
 * negative drop reason, or 0: the packet carries none.
 */
static __always_inline int dsr_read_v4(struct __sk_buff *skb, struct scratch *scratch)
{
	const __u32 at = ETH_HLEN + sizeof(struct iphdr);
	const struct packet *packet = &scratch->packet;
	struct dsr_mark *mark = &scratch->mark;
	struct dsr_option_v4 option = {};

	if (bpf_skb_load_bytes(skb, at, &option, DSR_PLAIN_V4) || option.type != DSR_OPTION_V4)
		return 0;
	if (at + option.length > packet->l4_off || packet->fragment || !packet->key.sport)
		return -DROP_DSR_MALFORMED;
	addr_set_v4(&mark->vip, option.vip);
	mark->port = option.port;
	mark->client_port = packet->key.sport;
	if (option.length == DSR_PLAIN_V4)
		return CONFIG.dsr_plain_in ? DSR_PLAIN_V4 : -DROP_DSR_TAG;
	if (option.length != sizeof(option) || bpf_skb_load_bytes(skb, at, &option, sizeof(option)))
		return -DROP_DSR_MALFORMED;
	mark->client_port = option.client_port;
	return dsr_genuine(&packet->key, mark, option.tag, sizeof(option.tag), false)
		       ? sizeof(option)
		       : -DROP_DSR_TAG;
}

static __always_inline int dsr_read_v6(struct __sk_buff *skb, struct scratch *scratch)
{
	const __u32 at = ETH_HLEN + sizeof(struct ipv6hdr);
	const struct packet *packet = &scratch->packet;
	struct dsr_mark *mark = &scratch->mark;
	struct dsr_option_v6 option = {};

	if (bpf_skb_load_bytes(skb, at, &option, DSR_PLAIN_V6) || option.type != DSR_OPTION_V6)
		return 0;
	/* l4_off does not count as far as an extension header may reach. */
	if (4 + option.length != (option.words + 1) * 8 || !packet->key.sport)
		return -DROP_DSR_MALFORMED;
	addr_set_v6(&mark->vip, option.vip);
	mark->port = option.port;
	mark->client_port = packet->key.sport;
	if (option.length == DSR_PLAIN_V6 - 4)
		return CONFIG.dsr_plain_in ? DSR_PLAIN_V6 : -DROP_DSR_TAG;
	if (option.length != sizeof(option) - 4 ||
	    bpf_skb_load_bytes(skb, at, &option, sizeof(option)))
		return -DROP_DSR_MALFORMED;
	mark->client_port = option.client_port;
	return dsr_genuine(&packet->key, mark, option.tag, sizeof(option.tag), true)
		       ? sizeof(option)
		       : -DROP_DSR_TAG;
}

/* Takes the first @size bytes behind the IPv4 header out. Returns 0, or -1. */
static __always_inline int dsr_strip_v4(struct __sk_buff *skb, __u8 proto, const __u32 size)
{
	const __u32 at = ETH_HLEN + sizeof(struct iphdr);
	const struct dsr_option_v4 zero = {};
	struct dsr_option_v4 option = {};

	/*
	 * A complete skb->csum has the header's sum, 0 with the option and without: what the kernel
	 * takes out of it for the bytes that leave has to be nothing.
	 */
	if (bpf_skb_load_bytes(skb, at, &option, size) ||
	    bpf_skb_store_bytes(skb, at, &zero, size, 0) ||
	    bpf_skb_adjust_room(skb, -(__s32)size, BPF_ADJ_ROOM_NET, dsr_room_flags(proto)))
		return -1;
	/* Bytes that were not carried are zero and add nothing. */
	return dsr_resize_v4(skb, -(__s32)size,
			     bpf_csum_diff((void *)&option, sizeof(option), NULL, 0, 0));
}

static __always_inline int dsr_strip_v6(struct __sk_buff *skb, __u8 proto, const __u32 size)
{
	const __u32 at = ETH_HLEN + offsetof(struct ipv6hdr, payload_len);
	const struct dsr_option_v6 zero = {};
	struct dsr_ipv6_next next;

	if (bpf_skb_load_bytes(skb, at, &next, sizeof(next)))
		return -1;
	next.payload_len = bpf_htons(bpf_ntohs(next.payload_len) - size);
	next.nexthdr = proto;
	/* Zeros first: what leaves the packet then counts for nothing in a complete skb->csum. */
	if (bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &zero, size,
				BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_adjust_room(skb, -(__s32)size, BPF_ADJ_ROOM_NET, dsr_room_flags(proto)) ||
	    bpf_skb_store_bytes(skb, at, &next, sizeof(next), BPF_F_RECOMPUTE_CSUM))
		return -1;
	return 0;
}

/* Reads what the entries of the flow table need from a header that has more behind it. */
static __always_inline bool dsr_parse_v4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u32 l4;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 4)
		return false;
	l4 = ETH_HLEN + ip.ihl * 4;
	addr_set_v4(&packet->key.saddr, ip.saddr);
	addr_set_v4(&packet->key.daddr, ip.daddr);
	packet->key.proto = ip.protocol;
	packet->l4_off = l4;
	packet->fragment = !!(ip.frag_off & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS));
	return dsr_parse_ports(skb, packet, l4, ip.protocol);
}

static __always_inline bool dsr_parse_v6(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		struct ipv6hdr ip;
		__u8 nexthdr;
		__u8 words;
		__u8 pad[2];
	} header;
	__u32 l4;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &header, sizeof(header)) || header.ip.version != 6)
		return false;
	l4 = ETH_HLEN + sizeof(header.ip) + (header.words + 1) * 8;
	addr_set_v6(&packet->key.saddr, header.ip.saddr.in6_u.u6_addr32);
	addr_set_v6(&packet->key.daddr, header.ip.daddr.in6_u.u6_addr32);
	packet->key.proto = header.nexthdr;
	packet->l4_off = l4;
	packet->fragment = 0;
	return dsr_parse_ports(skb, packet, l4, header.nexthdr);
}

/*
 * Reads the option of a packet that has one for a backend of this node, and puts both into scratch.
 * Returns as dsr_read_v4().
 */
__noinline int dsr_read(struct __sk_buff *skb, bool v6)
{
	struct scratch *scratch = scratch_get();
	struct packet *packet;

	if (!scratch)
		return -DROP_FLOWS_FULL;
	packet = &scratch->packet;
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->key.zone = ZONE_WIRE;
	if (!(v6 ? dsr_parse_v6(skb, packet) : dsr_parse_v4(skb, packet)))
		return 0;
	/* Others' packets travel as they are. */
	if (!endpoint_lookup(&packet->key.daddr) && !owned_lookup(&packet->key.daddr))
		return 0;
	return v6 ? dsr_read_v6(skb, scratch) : dsr_read_v4(skb, scratch);
}

/*
 * Takes the option, of @size bytes, out of scratch->packet. Returns 0, or -1. Below Linux 5.11 the
 * verifier loses track of a size that is compared as a range.
 */
__noinline int dsr_strip(struct __sk_buff *skb, bool v6, __u32 size)
{
	struct scratch *scratch = scratch_get();
	__u8 proto;

	if (!scratch)
		return -1;
	proto = scratch->packet.key.proto;
	scratch->packet.l4_off -= size;
	if (v6)
		return size == DSR_PLAIN_V6
			       ? dsr_strip_v6(skb, proto, DSR_PLAIN_V6)
			       : dsr_strip_v6(skb, proto, sizeof(struct dsr_option_v6));
	return size == DSR_PLAIN_V4 ? dsr_strip_v4(skb, proto, DSR_PLAIN_V4)
				    : dsr_strip_v4(skb, proto, sizeof(struct dsr_option_v4));
}

/* Whether the packet's header is one that an option could be in. */
static __always_inline bool dsr_may_carry(struct __sk_buff *skb, const bool v6)
{
	const __u32 end = ETH_HLEN + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	const __u8 *ip;

	if (!packet_pull(skb, end))
		return false;
	ip = packet_data(skb) + ETH_HLEN;
	if (packet_data(skb) + end > packet_end(skb))
		return false;
	if (v6)
		return ip[offsetof(struct ipv6hdr, nexthdr)] == IPPROTO_DSTOPTS;
	return (ip[0] & 0xf) > sizeof(struct iphdr) / 4;
}

/*
 * Takes the option from a packet that has one for a backend of this node, and opens its flow.
 * Returns the verdict, VERDICT_NONE or DSR_TAKEN: the walk goes on with the packet as it is now,
 * and with @found where that is not NULL.
 */
static __always_inline int dsr_accept(struct __sk_buff *skb, struct packet *packet,
				      struct flow **found, __u32 now, const bool v6)
{
	int size, why;

	if (!dsr_may_carry(skb, v6))
		return VERDICT_NONE;
	size = dsr_read(skb, v6);
	if (!size)
		return VERDICT_NONE;
	why = size < 0 ? -size : dsr_open(skb);
	if (why <= 0) {
		const int led = dsr_alias(skb);

		why = led ? led : why;
	}
	if (why > 0) {
		scratch_tell(packet);
		return verdict_drop(why);
	}
	if (dsr_strip(skb, v6, size))
		return verdict_drop(DROP_REWRITE);
	if (why == DSR_ASIDE) {
		why = dsr_unmark(skb, found, now);
		if (why > 0)
			return verdict_drop(why);
		packet->key.zone = -why;
		return DSR_TAKEN;
	}
	return VERDICT_NONE;
}
