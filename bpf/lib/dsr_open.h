/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The backend's node writes down a connection that was dispatched to it translated: the request is
 * delivered as it is, the answer gets the service's address.
 */
#pragma once

#include "dsr_insert.h"
#include "flow_open.h"
#include "owned.h"
#include "service.h"

/* The service that @mark names, for counters: a node's own NodePort is known by its port. */
static __always_inline __u32 dsr_service_id(const struct dsr_mark *mark, __u8 proto)
{
	const struct service *service = service_lookup(&mark->vip, mark->port, proto);

	if (!service)
		service = service_lookup_wildcard(&mark->vip, mark->port, proto);
	return service ? service->id : 0;
}

/* Whether @reply turns the backend's answers into what @mark says. */
static __always_inline bool dsr_says(const struct flow *reply, const struct dsr_mark *mark)
{
	return (reply->flags & FLOW_DSR_END) && addr_equal(&reply->saddr, &mark->vip) &&
	       reply->sport == mark->port && reply->dport == mark->client_port;
}

/* The tuple that the client sent, of the packet with @key that @mark belongs to. */
static __always_inline struct flow_key dsr_original(const struct flow_key *key,
						    const struct dsr_mark *mark)
{
	return (struct flow_key){
		.saddr = key->saddr,
		.daddr = mark->vip,
		.sport = mark->client_port,
		.dport = mark->port,
		.proto = key->proto,
		.zone = ZONE_OVERLAY,
	};
}

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

/* Leaves for dsr_alias() that packets of scratch->mark's connection are led to @port. */
static __always_inline void dsr_lead(struct scratch *scratch, __be16 port, bool original, bool must,
				     __u16 flags)
{
	scratch->lead = (struct dsr_lead){
		.port = port,
		.flags = FLOW_DSR_ALIAS | flags,
		.original = original,
		.must = must,
	};
}

/*
 * Leads packets to the flow of scratch->packet's backend with another port of the client's, where
 * dsr_open() has said so. Returns 0, or the reason to drop this one. A function of its own, which
 * dsr_open() does not call, for the stack's sake.
 *
 * An entry that leads is never marked as seen in this tick: each packet then makes sure that the
 * tuple is still that connection's (flow_note()). What ends it there knows nothing of the entry.
 */
__noinline int dsr_alias(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const __u32 now = clock_ticks();
	const struct packet *packet;
	const struct dsr_mark *mark;
	const struct dsr_lead *lead;
	struct flow *forward, *other;
	struct flow_key key;
	__u32 connection;
	long err;

	if (!scratch || !scratch->lead.port)
		return 0;
	packet = &scratch->packet;
	mark = &scratch->mark;
	lead = &scratch->lead;
	forward = &scratch->forward;
	key = lead->original ? dsr_original(&packet->key, mark) : packet->key;
	connection = flow_connection(&mark->vip, mark->port, mark->client_port);
	other = flow_find(&key, now);
	if (other && (other->flags & FLOW_DSR_ALIAS) && other->target == connection &&
	    other->sport == lead->port && other->dport == packet->key.dport &&
	    addr_equal(&other->daddr, &packet->key.daddr) &&
	    ((lead->flags & FLOW_NEW) || !(other->flags & FLOW_NEW))) {
		if (lead->original && other->last_seen != now - 1)
			other->last_seen = now - 1;
		return 0;
	}
	__builtin_memset(forward, 0, sizeof(*forward));
	forward->saddr = packet->key.saddr;
	forward->daddr = packet->key.daddr;
	forward->sport = lead->port;
	forward->dport = packet->key.dport;
	forward->service = dsr_service_id(mark, packet->key.proto);
	forward->partner_zone = scratch->reverse_key.zone;
	forward->flags = lead->flags;
	forward->tcp_own = flow_tcp_bits(packet);
	forward->target = connection;
	forward->last_seen = now - 1;
	forward->created = now;
	if (route_find(skb, forward))
		return lead->must ? DROP_NO_ROUTE : 0;
	rewrite_prepare(&key, forward);
	/* What else is known under this tuple is of a connection that is over. */
	if (lead->flags & FLOW_NEW) {
		bpf_map_delete_elem(&flows, &key);
		err = map_update(&flows_new, &key, forward, BPF_ANY);
	} else {
		err = map_update(&flows, &key, forward, BPF_ANY);
		bpf_map_delete_elem(&flows_new, &key);
	}
	return err && lead->must ? DROP_FLOWS_FULL : 0;
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
	if (map_update(&flows_new, &packet->key, forward, BPF_ANY)) {
		bpf_map_delete_elem(&flows_new, &scratch->reverse_key);
		return DROP_FLOWS_FULL;
	}
	if (packet->key.sport != scratch->mark.client_port)
		dsr_lead(scratch, packet->key.sport, true, false, FLOW_NEW);
	return 0;
}
