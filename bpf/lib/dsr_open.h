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

/*
 * Makes way for scratch->packet, dispatched from scratch->mark. Returns 0, 1 when its flow exists,
 * or the drop reason.
 */
static __always_inline int dsr_make_way(struct scratch *scratch, __u32 now)
{
	const struct packet *packet = &scratch->packet;
	struct flow *reply = flow_find(&scratch->reverse_key, now);

	if (reply && dsr_says(reply, &scratch->mark)) {
		if (!(packet_opens(packet) && flow_closing(reply)) && flow_find(&packet->key, now))
			return 1;
	} else if (reply && !flow_closing(reply)) {
		/* Datagrams follow whoever sent last; a connection is not to be taken over. */
		if (packet->key.proto == IPPROTO_TCP || !(reply->flags & FLOW_DSR_END))
			return DROP_DSR_CONFLICT;
	}
	if (reply)
		flow_close(&scratch->reverse_key, reply);
	return 0;
}

/*
 * Opens the flow of scratch->packet, whose destination is a backend on this node, from
 * scratch->mark. Returns 0 or the drop reason.
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
	way = dsr_make_way(scratch, now);
	if (way)
		return way == 1 ? 0 : way;

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

	if (flow_claim(&scratch->reverse_key, reply, now))
		return DROP_FLOWS_FULL;
	if (flow_open_forward(scratch, now)) {
		bpf_map_delete_elem(&flows_new, &scratch->reverse_key);
		return DROP_FLOWS_FULL;
	}
	return 0;
}
