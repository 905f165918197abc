/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Writes down a new connection: both entries, with a client port that keeps its answers apart. */
#pragma once

#include "outcome.h"
#include "rewrite.h"
#include "route.h"
#include "snat.h"

/* What the caller has decided about a new connection. */
struct flow_plan {
	struct addr saddr; /* what the packet shall carry */
	struct addr daddr;
	__be16 dport;
	__u8 reverse_zone;   /* where its answers will be met */
	__u8 own_address;    /* saddr is the node's, not the client's */
	__u32 reverse_input; /* ZONE_POD: the device answers come from */
	__u32 service;
	__u32 target;
	__u16 target_epoch;
	__u16 flags;
};

/*
 * Opens the flow of @packet as @plan says; scratch->forward then holds the entry to act on.
 * Returns OUTCOME_TRANSLATED, or the drop reason.
 */
static __noinline int flow_open(struct __sk_buff *skb, const struct packet *packet,
				const struct flow_plan *plan, __u32 now)
{
	struct flow_scratch *scratch = flow_scratch();
	struct flow *forward, *reverse;
	struct flow_key reverse_key = {
		.saddr = plan->daddr,
		.daddr = plan->saddr,
		.sport = plan->dport,
		.dport = packet->key.sport,
		.proto = packet->key.proto,
		.zone = plan->reverse_zone,
	};
	const __u8 bits = flow_tcp_bits(packet);
	long err;

	if (!scratch)
		return DROP_FLOWS_FULL;
	forward = &scratch->forward;
	reverse = &scratch->reverse;

	/* The answer's way back is looked up by the first answer. */
	__builtin_memset(reverse, 0, sizeof(*reverse));
	reverse->saddr = packet->key.daddr;
	reverse->daddr = packet->key.saddr;
	reverse->sport = packet->key.dport;
	reverse->dport = packet->key.sport;
	reverse->service = plan->service;
	reverse->target = plan->target;
	reverse->target_epoch = plan->target_epoch;
	reverse->partner_zone = packet->key.zone;
	reverse->flags = plan->flags | FLOW_REPLY | FLOW_NEW;
	reverse->in_ifindex = plan->reverse_input;
	reverse->tcp_peer = bits;
	reverse->last_seen = now;
	reverse->created = now;

	if (packet->key.proto == IPPROTO_SCTP) {
		/* Its CRC32c covers the ports: they cannot be changed here. */
		if (plan->dport != packet->key.dport)
			return DROP_PROTOCOL;
		rewrite_prepare(&reverse_key, reverse);
		err = flow_claim(&reverse_key, reverse, now);
		if (err == -EEXIST)
			return DROP_PROTOCOL;
	} else {
		/* The port is not known yet: its sum is set once it is won. */
		err = snat_claim(skb, &reverse_key, reverse, plan->own_address, now);
		if (err == -EEXIST)
			return DROP_SNAT_EXHAUSTED;
	}
	if (err)
		return DROP_FLOWS_FULL;

	forward->saddr = plan->saddr;
	forward->daddr = plan->daddr;
	forward->sport = reverse_key.dport;
	forward->dport = plan->dport;
	forward->service = plan->service;
	forward->target = plan->target;
	forward->target_epoch = plan->target_epoch;
	forward->partner_zone = plan->reverse_zone;
	forward->flags = plan->flags | FLOW_NEW | (forward->flags & FLOW_NO_MAC);
	forward->tcp_own = bits;
	forward->tcp_peer = 0;
	forward->in_ifindex = packet->key.zone == ZONE_POD ? skb->ifindex : 0;
	forward->last_seen = now;
	forward->created = now;
	forward->replied = 0;
	rewrite_prepare(&packet->key, forward);

	reverse = bpf_map_lookup_elem(&flows_new, &reverse_key);
	if (reverse)
		rewrite_prepare(&reverse_key, reverse);

	if (flow_insert(&flows_new, &packet->key, forward, BPF_ANY)) {
		bpf_map_delete_elem(&flows_new, &reverse_key);
		return DROP_FLOWS_FULL;
	}
	return OUTCOME_TRANSLATED;
}
