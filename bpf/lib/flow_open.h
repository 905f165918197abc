/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Writes down a new connection: both entries, with a client port that keeps its answers apart. */
#pragma once

#include "pod_pair.h"
#include "report.h"
#include "rewrite.h"
#include "route.h"
#include "snat.h"

/*
 * Stores scratch->forward. Where another CPU has opened the same flow since this one missed, the
 * other's counts: ours is taken back, and scratch->forward becomes the one to act on.
 */
static __always_inline long flow_open_forward(struct scratch *scratch, __u32 now)
{
	const struct flow_key *key = &scratch->packet.key;
	struct flow *other;
	long err;

	err = flow_store(&flows_new, key, &scratch->forward, BPF_NOEXIST);
	if (err != -EEXIST)
		return err;
	other = bpf_map_lookup_elem(&flows_new, key);
	if (!other || flow_expired(other, key->proto, now))
		return flow_store(&flows_new, key, &scratch->forward, BPF_ANY);
	scratch->forward = *other;
	bpf_map_delete_elem(&flows_new, &scratch->reverse_key);
	return 0;
}

/*
 * Opens the flow of scratch->packet as scratch->plan says; scratch->forward, where the caller has
 * put the output, is then the entry to act on. Returns 0 or the drop reason.
 *
 * Where the map refuses, as it may for an instant, a flow with direct server return does without:
 * no answer is looked up here, a partner that is missing is put back with a later packet, and a
 * packet without any entry is the first again and gets the same backend.
 */
__noinline int flow_open(CTX *ctx)
{
	struct scratch *scratch = scratch_get();
	const __u32 now = clock_ticks();
	const struct packet *packet;
	const struct flow_plan *plan;
	struct flow *forward, *reverse;
	__u8 bits;
	long err;

	if (!scratch)
		return DROP_FLOWS_FULL;
	packet = &scratch->packet;
	plan = &scratch->plan;
	forward = &scratch->forward;
	reverse = &scratch->reverse;
	bits = flow_tcp_bits(packet);

	scratch->reverse_key = (struct flow_key){
		.saddr = plan->daddr,
		.daddr = plan->saddr,
		.sport = plan->dport,
		.dport = packet->key.sport,
		.proto = packet->key.proto,
		.zone = plan->reverse_zone,
	};

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

	/* A pod's packet may come back from outside as well. */
	if (packet->key.zone == ZONE_POD ||
	    (plan->reverse_zone == ZONE_POD && endpoint_lookup(&packet->key.saddr))) {
		pod_pair_mark(&packet->key.saddr, &packet->key.daddr);
		pod_pair_mark(&scratch->reverse_key.saddr, &scratch->reverse_key.daddr);
	}
	err = snat_claim(ctx);
	if (err == -EEXIST)
		return DROP_SNAT_EXHAUSTED;
	if (err && !(plan->flags & FLOW_DSR))
		return DROP_FLOWS_FULL;

	forward->saddr = plan->saddr;
	forward->daddr = plan->daddr;
	forward->sport = scratch->reverse_key.dport;
	forward->dport = plan->dport;
	forward->service = plan->service;
	forward->target = plan->target;
	forward->target_epoch = plan->target_epoch;
	forward->partner_zone = plan->reverse_zone;
	forward->flags = plan->flags | FLOW_NEW | (forward->flags & FLOW_NO_MAC);
	forward->tcp_own = bits;
	forward->tcp_peer = 0;
	forward->in_ifindex = packet->key.zone == ZONE_POD ? ctx_input(ctx) : 0;
	forward->last_seen = now;
	forward->created = now;
	forward->replied = 0;
	rewrite_prepare(&packet->key, forward);

	if (flow_open_forward(scratch, now)) {
		bpf_map_delete_elem(&flows_new, &scratch->reverse_key);
		return plan->flags & FLOW_DSR ? 0 : DROP_FLOWS_FULL;
	}
	return 0;
}
