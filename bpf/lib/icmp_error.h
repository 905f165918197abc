/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about translated packets, in both directions: whoever sent the packet they quote must
 * recognise it. Without this, path MTU discovery ends at the service address.
 *
 * The quote is a packet on its way out, so the flow that knows its ends is that of the answers: its
 * tuple turned round, met where the error is met.
 */
#pragma once

#include "dsr_outer_error.h"
#include "dsr_send.h"
#include "flow_table.h"
#include "icmp_quote.h"
#include "output.h"
#include "reject.h"

#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_LAST_ERROR 127

static __always_inline bool icmp_is_error(__u8 type, const bool v6)
{
	if (v6)
		return type <= ICMPV6_LAST_ERROR;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/*
 * Writes the quote and the outer addresses of an IPv4 error. Within the quoted header, its own
 * checksum makes up for the addresses, so the ICMP checksum sees the ports alone. The quoted L4
 * checksum stays as it was: nobody can verify it over a quote.
 */
static __always_inline int icmp_write_v4(struct __sk_buff *skb, const struct scratch *scratch,
					 __u32 icmp)
{
	const struct flow_key *key = &scratch->reverse_key;
	const struct flow *flow = &scratch->forward;
	const __be32 outer[2] = {scratch->reverse.saddr.w[3], scratch->reverse.daddr.w[3]};
	const __be32 before[2] = {scratch->packet.key.saddr.w[3], scratch->packet.key.daddr.w[3]};
	const __be16 old_ports[2] = {key->dport, key->sport};
	const __be32 old_ends[2] = {key->daddr.w[3], key->saddr.w[3]};
	const __be16 ports[2] = {flow->dport, flow->sport};
	struct iphdr quoted;
	__u64 sum;

	if (bpf_skb_load_bytes(skb, icmp + ICMP_QUOTE, &quoted, sizeof(quoted)))
		return -1;
	quoted.saddr = flow->daddr.w[3];
	quoted.daddr = flow->saddr.w[3];
	sum = (__u16)~quoted.check;
	sum += (__u32)bpf_csum_diff((void *)old_ends, sizeof(old_ends), (void *)&quoted.saddr,
				    sizeof(old_ends), 0);
	quoted.check = ~rewrite_fold(sum);
	if (bpf_skb_store_bytes(skb, icmp + ICMP_QUOTE, &quoted, sizeof(quoted), 0) ||
	    bpf_skb_store_bytes(skb, icmp + ICMP_QUOTE + scratch->quote.ports, ports, sizeof(ports),
				0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), outer, sizeof(outer),
				0))
		return -1;
	if (bpf_l3_csum_replace(
		    skb, ETH_HLEN + offsetof(struct iphdr, check), 0,
		    bpf_csum_diff((void *)before, sizeof(before), (void *)outer, sizeof(outer), 0),
		    0))
		return -1;
	return bpf_l4_csum_replace(skb, icmp + ICMP_CHECKSUM, 0,
				   bpf_csum_diff((void *)old_ports, sizeof(old_ports),
						 (void *)ports, sizeof(old_ports), 0),
				   0);
}

/* ICMPv6 sums the quote as it is, and the outer addresses as a pseudo header. */
static __always_inline int icmp_write_v6(struct __sk_buff *skb, const struct scratch *scratch,
					 __u32 icmp)
{
	const struct flow_key *key = &scratch->reverse_key;
	const struct flow *flow = &scratch->forward;
	const struct flow *outer = &scratch->reverse;
	const __be16 old_ports[2] = {key->dport, key->sport};
	const struct addr old_ends[2] = {key->daddr, key->saddr};
	const struct addr ends[2] = {flow->daddr, flow->saddr};
	const __be16 ports[2] = {flow->dport, flow->sport};
	__u32 sum, pseudo;

	sum = bpf_csum_diff((void *)old_ends, sizeof(old_ends), (void *)ends, sizeof(ends), 0);
	sum = bpf_csum_diff((void *)old_ports, sizeof(old_ports), (void *)ports, sizeof(ports),
			    sum);
	pseudo = bpf_csum_diff((void *)&scratch->packet.key.saddr, 2 * sizeof(struct addr),
			       (void *)&outer->saddr, 2 * sizeof(struct addr), 0);
	if (bpf_skb_store_bytes(skb, icmp + ICMP_QUOTE + offsetof(struct ipv6hdr, saddr), ends,
				sizeof(ends), 0) ||
	    bpf_skb_store_bytes(skb, icmp + ICMP_QUOTE + scratch->quote.ports, ports, sizeof(ports),
				0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), &outer->saddr,
				2 * sizeof(struct addr), 0))
		return -1;
	if (bpf_l4_csum_replace(skb, icmp + ICMP_CHECKSUM, 0, sum, 0) ||
	    bpf_l4_csum_replace(skb, icmp + ICMP_CHECKSUM, 0, pseudo, BPF_F_PSEUDO_HDR))
		return -1;
	bpf_csum_update(skb, pseudo); /* as in rewrite_packet */
	return 0;
}

/* Translates the ICMP error scratch->packet. Returns the verdict, or VERDICT_NONE: not ours. */
__noinline int icmp_error(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	struct flow *flow;
	__u32 icmp;
	bool v6;

	if (!scratch)
		return VERDICT_NONE;
	v6 = !addr_is_v4(&scratch->packet.key.saddr);
	icmp = packet_l4_off(&scratch->packet, v6);
	if (v6 ? !icmp_quote_key(skb, scratch, icmp + ICMP_QUOTE, true)
	       : !icmp_quote_key(skb, scratch, icmp + ICMP_QUOTE, false))
		return VERDICT_NONE;
	flow = flow_find(&scratch->reverse_key, clock_ticks());
	if (flow) {
		if (flow->in_ifindex && flow->in_ifindex != skb->ifindex)
			return verdict_drop(DROP_SPOOFED);
		scratch->packet.service = flow->service;
		scratch->forward = *flow;
	} else if (v6 ? !icmp_quote_says(skb, scratch, icmp + ICMP_QUOTE, true)
		      : !icmp_quote_says(skb, scratch, icmp + ICMP_QUOTE, false)) {
		return VERDICT_NONE;
	}
	flow = &scratch->forward;
	/* The end that complains about itself is known by the service's address, a router by its
	 * own. */
	scratch->reverse.saddr = scratch->packet.key.saddr;
	if (addr_equal(&scratch->packet.key.saddr, &scratch->reverse_key.saddr))
		scratch->reverse.saddr = flow->saddr;
	scratch->reverse.daddr = flow->daddr;

	if (v6 ? icmp_write_v6(skb, scratch, icmp) : icmp_write_v4(skb, scratch, icmp))
		return verdict_drop(DROP_REWRITE);
	if (scratch->quote.option && (v6 ? icmp_lower_mtu_v6(skb, icmp, scratch->quote.option)
					 : icmp_lower_mtu_v4(skb, icmp, scratch->quote.option)))
		return verdict_drop(DROP_REWRITE);
	if (scratch->packet.key.zone == ZONE_HOST)
		return verdict(OUTCOME_TRANSLATED, TC_ACT_UNSPEC);
	if (route_find(skb, &scratch->forward))
		return verdict_drop(DROP_NO_ROUTE);
	if (scratch->forward.kind != FLOW_STACK) {
		if (scratch->packet.ttl <= 1)
			return verdict_drop(DROP_TTL);
		if (v6 ? rewrite_hop(skb, true) : rewrite_hop(skb, false))
			return verdict_drop(DROP_REWRITE);
	}
	return output_flow(skb, &scratch->forward, true);
}

/* Acts on @packet if it is an ICMP error about a translated one. */
static __always_inline int icmp_translate(struct __sk_buff *skb, struct packet *packet,
					  const bool v6)
{
	int decided;
	__u8 type;

	if (packet->key.proto != (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) || packet->fragment)
		return VERDICT_NONE;
	if (bpf_skb_load_bytes(skb, packet_l4_off(packet, v6), &type, sizeof(type)) ||
	    !icmp_is_error(type, v6))
		return VERDICT_NONE;
	if (!scratch_put(packet))
		return VERDICT_NONE;
	decided = icmp_error(skb);
	if (FROM_WIRE && CONFIG.dsr_dispatch == DSR_IPIP && decided == VERDICT_NONE) {
		const int mtu = dsr_outer_error(skb, v6);

		if (mtu)
			decided = reject_send(skb, REJECT_TOO_BIG, mtu);
	}
	packet->service = scratch_service();
	return decided;
}
