/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The backend's node writes down a connection that was dispatched to it translated: the request is
 * delivered as it is, the answer gets the service's address.
 */
#pragma once

#include "dsr_join.h"
#include "flow_open.h"
#include "owned.h"

/* Of dsr_open(), beside drop reasons: the packet goes on as what the client sent. */
#define DSR_ASIDE (-1)

/* Of dsr_make_way(), beside those: its flow exists. */
#define DSR_OPEN (-2)

/* The connection of scratch->mark is open and comes from @client to scratch->packet's backend. */
static __always_inline bool dsr_comes_from(struct scratch *scratch, __be16 client, __u32 now)
{
	struct flow_key key = scratch->reverse_key;
	const struct flow *reply;

	key.dport = client;
	reply = flow_find(&key, now);
	return reply && dsr_says(reply, &scratch->mark) && !flow_closing(reply);
}

/*
 * The port that the connection of scratch->mark came from before, or 0. @lead: what is known under
 * the tuple that the client sent.
 */
static __always_inline __be16 dsr_port(struct scratch *scratch, const struct flow *lead, __u32 now)
{
	const struct flow_key *key = &scratch->packet.key;

	if (key->sport != scratch->mark.client_port &&
	    dsr_comes_from(scratch, scratch->mark.client_port, now))
		return scratch->mark.client_port;
	if (lead && (lead->flags & FLOW_DSR_ALIAS) && lead->dport == key->dport &&
	    addr_equal(&lead->daddr, &key->daddr) && dsr_comes_from(scratch, lead->sport, now))
		return lead->sport;
	return 0;
}

/*
 * Makes way for scratch->packet, dispatched from scratch->mark. Returns 0, one of the numbers
 * above, or the drop reason.
 */
static __always_inline int dsr_make_way(struct __sk_buff *skb, struct scratch *scratch, __u32 now)
{
	const struct packet *packet = &scratch->packet;
	struct flow *reply = flow_find(&scratch->reverse_key, now);
	const struct flow *forward, *lead;
	struct flow_key original;
	__be16 port;

	if (reply && dsr_says(reply, &scratch->mark)) {
		/* Where its own was evicted, another connection may have the tuple. */
		forward = flow_find(&packet->key, now);
		if (forward && (forward->flags & FLOW_DSR_END) &&
		    !(packet_opens(packet) && flow_closing(reply))) {
			/* With the option that comes once a tick, so that it lives as long. */
			if (packet->key.sport != scratch->mark.client_port)
				dsr_lead(scratch, packet->key.sport, true, false,
					 reply->flags & FLOW_NEW);
			return DSR_OPEN;
		}
	} else {
		original = dsr_original(&packet->key, &scratch->mark);
		lead = flow_find(&original, now);
		port = dsr_port(scratch, lead, now);
		if (!port && lead && !(lead->flags & FLOW_DSR_ALIAS))
			return DSR_ASIDE;
		if (!port &&
		    dsr_is_own(packet, &original, &packet->key.daddr, packet->key.dport, now))
			return DSR_ASIDE;
		/*
		 * Datagrams each say whose they are, and so does what an LB node sends of a
		 * connection that it met in its middle. Of others most packets do not: the LB node
		 * changes the port of one whose SYN must come again.
		 */
		if (reply && !flow_closing(reply)) {
			if (packet->key.proto == IPPROTO_TCP && (packet_opens(packet) || !port))
				return DROP_DSR_CONFLICT;
			dsr_lead(scratch, port, true, true, FLOW_NEW);
			return DSR_ASIDE;
		}
		if (port) {
			dsr_lead(scratch, port, false, true, FLOW_NEW);
			return DSR_OPEN;
		}
		if (!reply && speaks_already(skb, SPEAKS_POD))
			return DROP_DSR_CONFLICT;
		/* It led to a connection that is over. */
		if (lead) {
			bpf_map_delete_elem(&flows, &original);
			bpf_map_delete_elem(&flows_new, &original);
		}
	}
	if (reply)
		flow_close(&scratch->reverse_key, reply);
	return 0;
}

/*
 * Opens the flow of scratch->packet, whose destination is a backend on this node, from
 * scratch->mark. Returns 0, DSR_ASIDE, or the drop reason.
 */
__noinline int dsr_open(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const __u32 now = clock_ticks();
	const struct endpoint *endpoint;
	const struct packet *packet;
	struct flow *forward, *reply;
	__u8 bits;
	int way;

	if (!scratch)
		return DROP_FLOWS_FULL;
	packet = &scratch->packet;
	forward = &scratch->forward;
	reply = &scratch->reverse;
	bits = flow_tcp_bits(packet);
	endpoint = endpoint_lookup(&packet->key.daddr);
	scratch->reverse_key = (struct flow_key){
		.saddr = packet->key.daddr,
		.daddr = packet->key.saddr,
		.sport = packet->key.dport,
		.dport = packet->key.sport,
		.proto = packet->key.proto,
		.zone = endpoint ? ZONE_POD : ZONE_HOST,
	};
	scratch->lead.port = 0;
	way = dsr_make_way(skb, scratch, now);
	if (way == DSR_OPEN)
		return 0;
	if (way)
		return way;

	__builtin_memset(reply, 0, sizeof(*reply));
	reply->saddr = scratch->mark.vip;
	reply->sport = scratch->mark.port;
	reply->daddr = packet->key.saddr;
	reply->dport = scratch->mark.client_port;
	reply->service = dsr_service_id(&scratch->mark, packet->key.proto);
	reply->partner_zone = packet->key.zone;
	reply->flags = FLOW_DSR_END | FLOW_REPLY | FLOW_NEW;
	reply->in_ifindex = endpoint ? endpoint->ifindex : 0;
	reply->tcp_peer = bits;
	reply->last_seen = now;
	reply->created = now;
	rewrite_prepare(&scratch->reverse_key, reply);

	__builtin_memset(forward, 0, sizeof(*forward));
	forward->saddr = packet->key.saddr;
	forward->daddr = packet->key.daddr;
	forward->sport = packet->key.sport;
	forward->dport = packet->key.dport;
	forward->service = reply->service;
	forward->partner_zone = scratch->reverse_key.zone;
	forward->flags = FLOW_DSR_END | FLOW_NEW;
	forward->tcp_own = bits;
	forward->last_seen = now;
	forward->created = now;
	if (route_find(skb, forward))
		return DROP_NO_ROUTE;

	/* The client may be a pod of this node, which asked another one. */
	if (endpoint_lookup(&packet->key.saddr))
		pod_pair_mark(&scratch->reverse_key.saddr, &scratch->reverse_key.daddr);
	if (flow_claim(&scratch->reverse_key, reply, now))
		return DROP_FLOWS_FULL;
	/* What else is known under this tuple is of a connection that is over. */
	bpf_map_delete_elem(&flows, &packet->key);
	if (flow_store(&flows_new, &packet->key, forward, BPF_ANY)) {
		bpf_map_delete_elem(&flows_new, &scratch->reverse_key);
		return DROP_FLOWS_FULL;
	}
	if (packet->key.sport != scratch->mark.client_port)
		dsr_lead(scratch, packet->key.sport, true, false, FLOW_NEW);
	return 0;
}
