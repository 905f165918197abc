/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finding, opening and closing flows; flow_keep.h has what happens in between.
 *
 * A connection opens in flows_new and moves to flows when the side that opened it has been answered
 * and goes on. Its two entries find each other by their keys: one's key is the other's rewrite,
 * turned round.
 */
#pragma once

#include "clock.h"
#include "endpoint.h"
#include "flow_state.h"
#include "handover.h"
#include "map_update.h"
#include "scratch.h"

static __always_inline void flow_partner_key(const struct flow_key *key, const struct flow *flow,
					     struct flow_key *partner)
{
	/* The request came translated: both directions go by one tuple. */
	if (flow->flags & FLOW_DSR_END) {
		*partner = (struct flow_key){
			.saddr = key->daddr,
			.daddr = key->saddr,
			.sport = key->dport,
			.dport = key->sport,
			.proto = key->proto,
			.zone = flow->partner_zone,
		};
		return;
	}
	*partner = (struct flow_key){
		.saddr = flow->daddr,
		.daddr = flow->saddr,
		.sport = flow->dport,
		.dport = flow->sport,
		.proto = key->proto,
		.zone = flow->partner_zone,
	};
}

/*
 * Tells a connection to the service at @vip and @port apart from others that may have its tuple at
 * the backend: that has neither the service nor the port that the client uses.
 */
static __always_inline __u32 flow_connection(const struct addr *vip, __be16 port,
					     __be16 client_port)
{
	__u64 mix;

	mix = vip->d[0] * 0x9e3779b97f4a7c15 + vip->d[1];
	mix = mix * 0x9e3779b97f4a7c15 + ((__u64)port << 16 | client_port);
	mix = (mix ^ (mix >> 30)) * 0xbf58476d1ce4e5b9;
	return mix >> 32;
}

/* Whether @partner's packets leave as answers to what was sent as @key. */
static __always_inline bool flow_answers(const struct flow_key *key, const struct flow *partner)
{
	return addr_equal(&partner->saddr, &key->daddr) &&
	       addr_equal(&partner->daddr, &key->saddr) && partner->sport == key->dport &&
	       partner->dport == key->sport;
}

/* Whether @partner turns the answers to packets of @flow, @key's, into what @key expects. */
static __always_inline bool flow_pairs(const struct flow_key *key, const struct flow *flow,
				       const struct flow *partner)
{
	if (flow->flags & FLOW_DSR_ALIAS)
		return (partner->flags & FLOW_REPLY) &&
		       flow_connection(&partner->saddr, partner->sport, partner->dport) ==
			       flow->target;
	if ((partner->flags & FLOW_DSR_END) && key->zone != ZONE_OVERLAY)
		return partner->partner_zone == key->zone;
	return flow_answers(key, partner);
}

/* Notes that @flow, which is live, is about to be stored under @key. */
static __noinline void handover_note(const struct flow_key *key, const struct flow *flow)
{
	const __u32 reply = !!(flow->flags & FLOW_REPLY);

	if (handover_goes_on(flow->last_seen))
		bpf_map_update_elem(&handover_keys, key, &reply, BPF_ANY);
}

/* Stores @flow under @key in @map, flows or flows_new. Returns 0 or the map's error. */
static __always_inline long flow_store(void *map, const struct flow_key *key,
				       const struct flow *flow, __u64 how)
{
	handover_note(key, flow);
	return map_update(map, key, flow, how);
}

/* The live entry under @key, or NULL. */
static __always_inline struct flow *flow_find(const struct flow_key *key, __u32 now)
{
	struct flow *flow;

	flow = bpf_map_lookup_elem(&flows, key);
	if (flow && !flow_expired(flow, key->proto, now))
		return flow;
	flow = bpf_map_lookup_elem(&flows_new, key);
	if (flow && !flow_expired(flow, key->proto, now))
		return flow;
	/* Another CPU may have promoted it between the two. */
	flow = bpf_map_lookup_elem(&flows, key);
	return flow && !flow_expired(flow, key->proto, now) ? flow : NULL;
}

static __noinline void flow_close(const struct flow_key *key, const struct flow *flow)
{
	struct flow_key partner;
	struct flow *other;

	flow_partner_key(key, flow, &partner);
	other = bpf_map_lookup_elem(&flows, &partner);
	if (other && flow_pairs(key, flow, other))
		bpf_map_delete_elem(&flows, &partner);
	other = bpf_map_lookup_elem(&flows_new, &partner);
	if (other && flow_pairs(key, flow, other))
		bpf_map_delete_elem(&flows_new, &partner);
	bpf_map_delete_elem(&flows, key);
	bpf_map_delete_elem(&flows_new, key);
}

/*
 * Inserts @flow under @key where nobody else owns it. Returns 0, -EEXIST when a live flow does, or
 * the map's error. flows is read after flows_new was written: a flow that is promoted in between is
 * then in flows already, so two flows can never both win one key.
 */
static __always_inline long flow_claim(const struct flow_key *key, const struct flow *flow,
				       __u32 now)
{
	struct flow *other;
	long err;

	err = flow_store(&flows_new, key, flow, BPF_NOEXIST);
	if (err == -EEXIST) {
		other = bpf_map_lookup_elem(&flows_new, key);
		if (other && !flow_expired(other, key->proto, now))
			return -EEXIST;
		bpf_map_delete_elem(&flows_new, key);
		err = flow_store(&flows_new, key, flow, BPF_NOEXIST);
	}
	if (err)
		return err;

	other = bpf_map_lookup_elem(&flows, key);
	if (!other)
		return 0;
	if (flow_expired(other, key->proto, now)) {
		bpf_map_delete_elem(&flows, key);
		return 0;
	}
	bpf_map_delete_elem(&flows_new, key);
	return -EEXIST;
}
