/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers a pod's ARP requests and neighbour solicitations with the host side's MAC: every address
 * but its own lies behind us. (RFC 826, RFC 4861.)
 */
#pragma once

#include "endpoint.h"
#include "output.h"

#define ARP_REQUEST 1
#define ARP_REPLY 2

#define ND_SOLICIT 135
#define ND_ADVERT 136
#define ND_ROUTER_SOLICIT 133
#define ND_OPTION_TARGET_LLADDR 2
#define ND_FLAGS_SOLICITED_OVERRIDE 0x60
#define ND_HOP_LIMIT 255

/* In a MAC's first byte: not one station's. */
#define MAC_GROUP 1

/* Ethernet and IPv4 only, which is all a veth pair carries. */
struct arp_packet {
	struct ethhdr eth;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target[4];
} __attribute__((packed));

struct nd_packet {
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__sum16 check;
	__u8 flags;
	__u8 reserved[3];
	struct in6_addr target;
	__u8 option;
	__u8 option_len; /* in units of 8 bytes */
	__u8 mac[ETH_ALEN];
};

static __always_inline int neighbour_reply(struct __sk_buff *skb)
{
	skb->tc_index = OUTPUT_FINISHED;
	return verdict(OUTCOME_ANSWERED, bpf_redirect(skb->ifindex, 0));
}

/* Returns the verdict on an ARP packet from a pod. */
static __always_inline int neighbour_arp(struct __sk_buff *skb)
{
	const struct endpoint *endpoint;
	struct arp_packet *arp;
	struct addr sender;
	__be32 from, to;

	if (!packet_pull(skb, sizeof(*arp)))
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
	arp = packet_data(skb);
	if ((void *)(arp + 1) > packet_end(skb))
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
	if (arp->operation != bpf_htons(ARP_REQUEST) || arp->protocol != bpf_htons(ETH_P_IP))
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);

	__builtin_memcpy(&from, arp->sender, sizeof(from));
	__builtin_memcpy(&to, arp->target, sizeof(to));
	/* A probe for its own address (RFC 5227) must find nobody. */
	if (!from || from == to)
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
	addr_set_v4(&sender, from);
	endpoint = endpoint_lookup(&sender);
	if (!endpoint || endpoint->ifindex != skb->ifindex)
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);

	arp->operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->eth.h_dest, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->sender_mac, endpoint->host_mac, ETH_ALEN);
	__builtin_memcpy(arp->eth.h_source, endpoint->host_mac, ETH_ALEN);
	__builtin_memcpy(arp->target, &from, sizeof(from));
	__builtin_memcpy(arp->sender, &to, sizeof(to));
	return neighbour_reply(skb);
}

/*
 * Answers a neighbour solicitation from a pod. Returns the verdict, or VERDICT_NONE when @packet is
 * none that we answer.
 */
static __noinline int neighbour_solicit(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 host_mac[ETH_ALEN];
	const struct endpoint *endpoint;
	struct nd_packet nd = {};
	__be32 pseudo[2] = {};
	struct addr target;
	__u8 macs[2 * ETH_ALEN];
	__u32 sum;

	/* Up to the target; the option is ours to write. */
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &nd, offsetof(struct nd_packet, option)))
		return VERDICT_NONE;
	if (nd.type != ND_SOLICIT || nd.ip.hop_limit != ND_HOP_LIMIT)
		return VERDICT_NONE;
	/* Sources :: are duplicate address detection: the pod asks about itself. */
	if (addr_is_zero(&packet->key.saddr))
		return VERDICT_NONE;
	addr_set_v6(&target, nd.target.in6_u.u6_addr32);
	endpoint = endpoint_lookup(&target);
	if (endpoint && endpoint->ifindex == skb->ifindex)
		return VERDICT_NONE;
	if (bpf_skb_load_bytes(skb, 0, host_mac, ETH_ALEN) ||
	    bpf_skb_load_bytes(skb, ETH_ALEN, macs, ETH_ALEN))
		return VERDICT_NONE;
	if (addr_is_link_local(&packet->key.saddr)) {
		/* No endpoint. Asking whether we are still there, it knows our MAC (RFC
		 * 4861, 7.3.3). */
		if (host_mac[0] & MAC_GROUP)
			return VERDICT_NONE;
	} else {
		endpoint = endpoint_lookup(&packet->key.saddr);
		if (!endpoint || endpoint->ifindex != skb->ifindex)
			return VERDICT_NONE;
		__builtin_memcpy(host_mac, endpoint->host_mac, ETH_ALEN);
	}
	__builtin_memcpy(macs + ETH_ALEN, host_mac, ETH_ALEN);

	nd.ip.daddr = nd.ip.saddr;
	nd.ip.saddr = nd.target;
	nd.ip.payload_len = bpf_htons(sizeof(nd) - sizeof(nd.ip));
	nd.type = ND_ADVERT;
	nd.check = 0;
	nd.flags = ND_FLAGS_SOLICITED_OVERRIDE;
	nd.option = ND_OPTION_TARGET_LLADDR;
	nd.option_len = 1;
	__builtin_memcpy(nd.mac, host_mac, ETH_ALEN);

	pseudo[0] = bpf_htonl(sizeof(nd) - sizeof(nd.ip));
	pseudo[1] = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(NULL, 0, (void *)&nd.ip.saddr, 2 * sizeof(nd.ip.saddr), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)pseudo, sizeof(pseudo), sum);
	sum = bpf_csum_diff(NULL, 0, (void *)&nd.type, sizeof(nd) - sizeof(nd.ip), sum);
	nd.check = ~rewrite_fold(sum);

	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(nd), 0) ||
	    bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &nd, sizeof(nd), BPF_F_RECOMPUTE_CSUM))
		return VERDICT_NONE;
	return neighbour_reply(skb);
}
