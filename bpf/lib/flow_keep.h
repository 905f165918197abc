/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What each packet tells about its flow: that it lives, is answered, closes, and who its partner
 * is. */
#pragma once

#include "flow_table.h"

/*
 * Stores @flow in flows, where another CPU may have been faster: what is there stays, for its
 * readers, and because what @flow points to may be another's since. Returns 0 or the map's error.
 */
static __always_inline long flow_confirm(const struct flow_key *key, const struct flow *flow)
{
	const struct flow *other;
	long err;

	err = flow_store(&flows, key, flow, BPF_NOEXIST);
	if (err != -EEXIST)
		return err;
	other = bpf_map_lookup_elem(&flows, key);
	if (!other || !flow_expired(other, key->proto, flow->last_seen))
		return 0;
	return flow_store(&flows, key, flow, BPF_ANY);
}

/* Moves a connection from flows_new to flows. @flow must not be used afterwards. */
static __noinline void flow_promote(const struct flow_key *key, struct flow *flow)
{
	struct flow_key partner;
	struct flow *other;

	flow_partner_key(key, flow, &partner);
	other = bpf_map_lookup_elem(&flows_new, &partner);
	if (!other || !flow_pairs(key, flow, other))
		return;

	flow->flags &= ~FLOW_NEW;
	other->flags &= ~FLOW_NEW;
	/* A SYN and an ACK are all that this was confirmed by, and anybody can send both. */
	if ((flow->flags & FLOW_DSR) && key->proto == IPPROTO_TCP) {
		flow->flags |= FLOW_UNPROVEN;
		other->flags |= FLOW_UNPROVEN;
	}
	if (flow_confirm(&partner, other))
		goto full;
	if (flow_confirm(key, flow)) {
		bpf_map_delete_elem(&flows, &partner);
		goto full;
	}
	bpf_map_delete_elem(&flows_new, key);
	bpf_map_delete_elem(&flows_new, &partner);
	return;
full:
	/* It lives on half-open, and tries again with its next packet. */
	flow->flags |= FLOW_NEW;
	other->flags |= FLOW_NEW;
}

/*
 * The entry under @key. A live one goes before one that has expired: what is left of a connection
 * in flows must not hide the half-open one that has its tuple now.
 */
static __always_inline struct flow *flow_any(const struct flow_key *key, __u32 now)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key), *half;

	if (flow && !flow_expired(flow, key->proto, now))
		return flow;
	half = bpf_map_lookup_elem(&flows_new, key);
	if (half && (!flow || !flow_expired(half, key->proto, now)))
		return half;
	/* As in flow_find(). */
	return bpf_map_lookup_elem(&flows, key);
}

/*
 * The once-a-tick visit and every SYN, FIN and RST: tells the partner, and puts it back where an
 * LRU eviction or an agent took it. Returns false when another flow owns the partner's key by now:
 * then this one must not be used any more.
 */
static __noinline bool flow_touch_partner(const struct flow_key *key, struct flow *flow, __u32 now)
{
	struct scratch *scratch = scratch_get();
	const struct endpoint *endpoint = NULL;
	struct flow_key partner;
	struct flow *other;

	if (!scratch)
		return true;
	flow_partner_key(key, flow, &partner);
	other = flow_any(&partner, now);
	if (other && flow_pairs(key, flow, other)) {
		other->tcp_peer |= flow->tcp_own;
		if ((flow->flags & FLOW_REPLY) || flow->replied)
			other->replied = 1;
		if ((other->flags & FLOW_UNPROVEN) && !(flow->flags & FLOW_UNPROVEN))
			other->flags &= ~FLOW_UNPROVEN;
		/* It lives, but its own first packet in this tick looks its route up as well. */
		if (other->last_seen != now)
			other->route_epoch--;
		other->last_seen = now;
		return true;
	}
	if (other && !flow_expired(other, key->proto, now))
		return false;
	/* Only an option knows what its answers are to be: the next one says it again. */
	if ((flow->flags & (FLOW_DSR_END | FLOW_REPLY)) == FLOW_DSR_END ||
	    (flow->flags & FLOW_DSR_ALIAS))
		return false;

	if (partner.zone == ZONE_POD) {
		endpoint = endpoint_lookup(&partner.saddr);
		if (!endpoint)
			return true; /* The pod is gone: nobody may send under its name. */
	}
	__builtin_memset(&scratch->reverse, 0, sizeof(scratch->reverse));
	scratch->reverse.in_ifindex = endpoint ? endpoint->ifindex : 0;
	scratch->reverse.saddr = key->daddr;
	scratch->reverse.daddr = key->saddr;
	scratch->reverse.sport = key->dport;
	scratch->reverse.dport = key->sport;
	scratch->reverse.service = flow->service;
	scratch->reverse.target = flow->target;
	scratch->reverse.target_epoch = flow->target_epoch;
	scratch->reverse.partner_zone = key->zone;
	scratch->reverse.flags = (flow->flags ^ FLOW_REPLY) | FLOW_NO_MAC;
	scratch->reverse.tcp_own = flow->tcp_peer;
	scratch->reverse.tcp_peer = flow->tcp_own;
	scratch->reverse.replied = flow->replied;
	scratch->reverse.last_seen = now;
	scratch->reverse.created = flow->created;
	/* Sums of the opposite change. */
	if (!(flow->flags & FLOW_DSR_END)) {
		scratch->reverse.addr_diff = ~flow->addr_diff;
		scratch->reverse.port_diff = ~flow->port_diff;
	}
	/* What has expired under its key would refuse it. */
	if (flow->flags & FLOW_NEW) {
		if (other)
			bpf_map_delete_elem(&flows_new, &partner);
		return flow_store(&flows_new, &partner, &scratch->reverse, BPF_NOEXIST) != -EEXIST;
	}
	if (other)
		bpf_map_delete_elem(&flows, &partner);
	return flow_store(&flows, &partner, &scratch->reverse, BPF_NOEXIST) != -EEXIST;
}

/* Whether this packet, with @bits, shows that its half-open flow has been answered and goes on. */
static __always_inline bool flow_may_promote(const struct packet *packet, const struct flow *flow,
					     __u8 bits)
{
	/* A refused connection is not worth a place that only age takes away. */
	if (!(flow->flags & FLOW_NEW) || flow_closing(flow))
		return false;
	if (packet->key.proto == IPPROTO_TCP)
		return (bits & FLOW_TCP_ACK) && (flow->tcp_peer || flow->told);
	return (flow->flags & FLOW_REPLY) || (flow->told && flow->replied);
}

/* Of flow_note(). */
#define FLOW_USABLE (1 << 0)
#define FLOW_TICKED (1 << 1)

/*
 * Notes at @now what scratch->packet says about its flow, and where that is promoted moves it.
 * Returns what flow_keep() needs; the entry is to be looked up again.
 */
__noinline int flow_note(__u32 now)
{
	struct scratch *scratch = scratch_get();
	const struct packet *packet;
	const struct flow_key *key;
	struct flow *flow;
	bool tell = false;
	int done = 0;
	__u8 bits;

	if (!scratch)
		return 0;
	packet = &scratch->packet;
	key = &packet->key;
	bits = flow_tcp_bits(packet);
	flow = flow_find(key, now);
	if (!flow)
		return 0;

	if (flow->last_seen != now) {
		/* One that leads to another is not trusted for a tick: dsr_alias(). */
		flow->last_seen = flow->flags & FLOW_DSR_ALIAS ? now - 1 : now;
		flow->flags &= ~FLOW_UNPROVEN;
		done = FLOW_TICKED;
		tell = true;
	}
	if (bits & FLOW_TCP_SYN) {
		if (packet_opens(packet) && flow_closing(flow)) {
			flow_close(key, flow);
			return 0;
		}
		tell = true;
	}
	if (bits & ~flow->tcp_own) {
		flow->tcp_own |= bits;
		tell = true;
	}
	/* Of FLOW_DSR no answer is seen: who still sends after a tick has had one. */
	if (key->proto != IPPROTO_TCP && !flow->replied &&
	    ((flow->flags & FLOW_REPLY) || (flow->told && done))) {
		flow->replied = 1;
		tell = true;
	}
	if (tell && !flow_touch_partner(key, flow, now)) {
		/* Or another CPU has promoted it, and what was read was given away: look again. */
		flow = flow_find(key, now);
		if (!flow || !flow_touch_partner(key, flow, now)) {
			bpf_map_delete_elem(&flows, key);
			bpf_map_delete_elem(&flows_new, key);
			return 0;
		}
	}
	if (flow_may_promote(packet, flow, bits))
		flow_promote(key, flow);
	return done | FLOW_USABLE;
}

/*
 * Notes what this packet says about its flow, and returns where the flow is now: promotion moves
 * it, and an LRU element may be given away the moment it is deleted. NULL when it must not be used:
 * it was closed and a SYN opens the tuple anew, or its partner's key has another owner. @ticked:
 * this is the flow's first packet in this tick.
 */
static __always_inline struct flow *flow_keep(const struct packet *packet, struct flow *flow,
					      __u32 now, bool *ticked)
{
	const __u8 bits = flow_tcp_bits(packet);
	int done;

	*ticked = false;
	if (flow->last_seen == now && !(bits & (FLOW_TCP_SYN | ~flow->tcp_own)) &&
	    (packet->key.proto == IPPROTO_TCP || !(flow->flags & FLOW_REPLY) || flow->replied) &&
	    !flow_may_promote(packet, flow, bits))
		return flow;
	if (!scratch_put(packet))
		return NULL;
	done = flow_note(now);
	*ticked = done & FLOW_TICKED;
	return done & FLOW_USABLE ? flow_find(&packet->key, now) : NULL;
}
