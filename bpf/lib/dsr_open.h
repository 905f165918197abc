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

/* Of dsr_make_way(), beside those: */
#define DSR_OPEN (-2)  /* its flow exists */
#define DSR_AGAIN (-3) /* it belongs to a connection that came from another port before */

/* The port of @client, for the answers of scratch->packet's backend, has the flow of @mark. */
static __always_inline bool dsr_came_before(struct scratch *scratch, __be16 client, __u32 now)
{
	struct flow_key key = scratch->reverse_key;
	const struct flow *reply;

	key.dport = client;
	reply = flow_find(&key, now);
	return reply && dsr_says(reply, &scratch->mark) && !flow_closing(reply);
}

/*
 * Makes way for scratch->packet, dispatched from scratch->mark. Returns 0, one of the numbers
 * above, or the drop reason.
 */
static __always_inline int dsr_make_way(struct __sk_buff *skb, struct scratch *scratch, __u32 now)
{
	const struct packet *packet = &scratch->packet;
	struct flow *reply = flow_find(&scratch->reverse_key, now);
	const struct flow *forward;
	struct flow_key original;

	if (reply && dsr_says(reply, &scratch->mark)) {
		/* Where its own was evicted, another connection may have the tuple. */
		forward = flow_find(&packet->key, now);
		if (forward && (forward->flags & FLOW_DSR_END) &&
		    !(packet_opens(packet) && flow_closing(reply)))
			return DSR_OPEN;
	} else {
		if (packet->key.sport != scratch->mark.client_port &&
		    dsr_came_before(scratch, scratch->mark.client_port, now))
			return DSR_AGAIN;
		original = dsr_original(&packet->key, &scratch->mark);
		if (flow_find(&original, now))
			return DSR_ASIDE;
		/*
		 * Datagrams each say whose they are. Of a connection most packets do not: the LB
		 * node changes the port of one whose SYN must come again.
		 */
		if (reply && !flow_closing(reply))
			return packet->key.proto == IPPROTO_TCP ? DROP_DSR_CONFLICT : DSR_ASIDE;
		if (!reply && speaks_already(skb, SPEAKS_POD))
			return DROP_DSR_CONFLICT;
	}
	if (reply)
		flow_close(&scratch->reverse_key, reply);
	return 0;
}

/*
 * Lets in what comes from another port than it came from before: the LB node took the client's own
 * for another service's, or another LB node did not. Returns 0 or the drop reason.
 */
static __always_inline int dsr_open_again(struct __sk_buff *skb, struct scratch *scratch, __u32 now)
{
	const struct packet *packet = &scratch->packet;
	struct flow *forward = &scratch->forward;
	struct flow *other = flow_find(&packet->key, now);

	if (other && (other->flags & FLOW_DSR_ALIAS) && other->sport == scratch->mark.client_port)
		return 0;
	if (other)
		flow_close(&packet->key, other);
	__builtin_memset(forward, 0, sizeof(*forward));
	forward->saddr = packet->key.saddr;
	forward->daddr = packet->key.daddr;
	forward->sport = scratch->mark.client_port;
	forward->dport = packet->key.dport;
	forward->service = dsr_service_id(&scratch->mark, packet->key.proto);
	forward->partner_zone = scratch->reverse_key.zone;
	forward->flags = FLOW_DSR_ALIAS | FLOW_NEW;
	forward->tcp_own = flow_tcp_bits(packet);
	forward->last_seen = now;
	forward->created = now;
	if (route_find(skb, forward))
		return DROP_NO_ROUTE;
	rewrite_prepare(&packet->key, forward);
	return map_update(&flows_new, &packet->key, forward, BPF_ANY) ? DROP_FLOWS_FULL : 0;
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
	way = dsr_make_way(skb, scratch, now);
	if (way == DSR_OPEN)
		return 0;
	if (way == DSR_AGAIN)
		return dsr_open_again(skb, scratch, now);
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
	return 0;
}
