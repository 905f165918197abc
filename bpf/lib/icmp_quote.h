/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an ICMP error says of the packet it quotes. One that was dispatched by direct server return
 * may be quoted with its option, which says all that the LB node knew: any node can tell its sender
 * then.
 */
#pragma once

#include "dsr_option.h"
#include "flow.h"
#include "scratch.h"

#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_LAST_ERROR 127

/* Offsets from the start of the ICMP header. */
#define ICMP_CHECKSUM 2
#define ICMP_MTU_V4 6
#define ICMP_MTU_V6 4
#define ICMP_QUOTE 8

#define ICMP_QUOTE_TOO_BIG_V4 0x0304 /* type and code */
#define ICMP_QUOTE_TOO_BIG_V6 0x0200

static __always_inline bool icmp_quote_v4(struct __sk_buff *skb, struct scratch *scratch,
					  __u32 quote, __be16 ports[2])
{
	struct flow_key *key = &scratch->reverse_key;
	__u8 option[2];
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, quote, &ip, sizeof(ip)))
		return false;
	/* Later fragments hide the ports. */
	if (ip.version != 4 || ip.ihl < sizeof(ip) / 4 || (ip.frag_off & bpf_htons(IP_OFFSET_MASK)))
		return false;
	addr_set_v4(&key->saddr, ip.daddr);
	addr_set_v4(&key->daddr, ip.saddr);
	key->proto = ip.protocol;
	scratch->quote.ports = ip.ihl * 4;
	if (ip.ihl > sizeof(ip) / 4 &&
	    !bpf_skb_load_bytes(skb, quote + sizeof(ip), option, sizeof(option)) &&
	    option[0] == DSR_OPTION_V4)
		scratch->quote.option = option[1];
	return !bpf_skb_load_bytes(skb, quote + scratch->quote.ports, ports, 2 * sizeof(*ports));
}

static __always_inline bool icmp_quote_v6(struct __sk_buff *skb, struct scratch *scratch,
					  __u32 quote, __be16 ports[2])
{
	struct flow_key *key = &scratch->reverse_key;
	struct {
		struct ipv6hdr ip;
		__u8 l4[4];
	} quoted;

	if (bpf_skb_load_bytes(skb, quote, &quoted, sizeof(quoted)) || quoted.ip.version != 6)
		return false;
	addr_set_v6(&key->saddr, quoted.ip.daddr.in6_u.u6_addr32);
	addr_set_v6(&key->daddr, quoted.ip.saddr.in6_u.u6_addr32);
	key->proto = quoted.ip.nexthdr;
	scratch->quote.ports = sizeof(quoted.ip);
	__builtin_memcpy(ports, quoted.l4, sizeof(quoted.l4));
	if (key->proto != IPPROTO_DSTOPTS || quoted.l4[2] != DSR_OPTION_V6)
		return true;
	key->proto = quoted.l4[0];
	scratch->quote.option = (quoted.l4[1] + 1) * 8;
	scratch->quote.ports += scratch->quote.option;
	return !bpf_skb_load_bytes(skb, quote + scratch->quote.ports, ports, 2 * sizeof(*ports));
}

/* Fills scratch->reverse_key with the tuple of the quoted packet's answers, and scratch->quote. */
static __always_inline bool icmp_quote_key(struct __sk_buff *skb, struct scratch *scratch,
					   __u32 quote, const bool v6)
{
	struct flow_key *key = &scratch->reverse_key;
	__be16 ports[2];

	__builtin_memset(key, 0, sizeof(*key));
	scratch->quote.option = 0;
	if (v6 ? !icmp_quote_v6(skb, scratch, quote, ports)
	       : !icmp_quote_v4(skb, scratch, quote, ports))
		return false;
	key->sport = ports[1];
	key->dport = ports[0];
	key->zone = scratch->packet.key.zone;
	return key->proto == IPPROTO_TCP || key->proto == IPPROTO_UDP || key->proto == IPPROTO_SCTP;
}

/*
 * Makes scratch->forward what the option in the quote, at @quote, says that the client sent. False
 * when there is none. Its tag is not looked at: who forges errors can do without this.
 */
static __always_inline bool icmp_quote_says(struct __sk_buff *skb, struct scratch *scratch,
					    __u32 quote, const bool v6)
{
	struct flow *forward = &scratch->forward;

	if (!CONFIG.dsr_dispatch || scratch->packet.key.zone != ZONE_WIRE)
		return false;
	__builtin_memset(forward, 0, sizeof(*forward));
	forward->daddr = scratch->reverse_key.daddr;
	forward->dport = scratch->reverse_key.dport;
	forward->flags = FLOW_REPLY;
	if (v6) {
		struct dsr_option_v6 option = {};

		if (scratch->quote.option < DSR_PLAIN_V6 ||
		    bpf_skb_load_bytes(skb, quote + sizeof(struct ipv6hdr), &option, DSR_PLAIN_V6))
			return false;
		addr_set_v6(&forward->saddr, option.vip);
		forward->sport = option.port;
		if (option.length != DSR_PLAIN_V6 - 4)
			forward->dport = option.client_port;
	} else {
		struct dsr_option_v4 option = {};

		if (scratch->quote.option < DSR_PLAIN_V4 ||
		    bpf_skb_load_bytes(skb, quote + sizeof(struct iphdr), &option, sizeof(option)))
			return false;
		addr_set_v4(&forward->saddr, option.vip);
		forward->sport = option.port;
		if (option.length != DSR_PLAIN_V4)
			forward->dport = option.client_port;
	}
	return true;
}

/* The packet that the client sent has no option: the MTU it is told leaves room for @option. */
static __always_inline int icmp_lower_mtu_v4(struct __sk_buff *skb, __u32 icmp, __u32 option)
{
	__be16 type, before, after;

	if (bpf_skb_load_bytes(skb, icmp, &type, sizeof(type)) ||
	    bpf_skb_load_bytes(skb, icmp + ICMP_MTU_V4, &before, sizeof(before)))
		return -1;
	if (type != bpf_htons(ICMP_QUOTE_TOO_BIG_V4) || bpf_ntohs(before) <= option)
		return 0;
	after = bpf_htons(bpf_ntohs(before) - option);
	if (bpf_skb_store_bytes(skb, icmp + ICMP_MTU_V4, &after, sizeof(after), 0))
		return -1;
	return bpf_l4_csum_replace(skb, icmp + ICMP_CHECKSUM, before, after, sizeof(after));
}

static __always_inline int icmp_lower_mtu_v6(struct __sk_buff *skb, __u32 icmp, __u32 option)
{
	__be32 before, after;
	__be16 type;

	if (bpf_skb_load_bytes(skb, icmp, &type, sizeof(type)) ||
	    bpf_skb_load_bytes(skb, icmp + ICMP_MTU_V6, &before, sizeof(before)))
		return -1;
	if (type != bpf_htons(ICMP_QUOTE_TOO_BIG_V6) || bpf_ntohl(before) <= option)
		return 0;
	after = bpf_htonl(bpf_ntohl(before) - option);
	if (bpf_skb_store_bytes(skb, icmp + ICMP_MTU_V6, &after, sizeof(after), 0))
		return -1;
	return bpf_l4_csum_replace(skb, icmp + ICMP_CHECKSUM, before, after, sizeof(after));
}
