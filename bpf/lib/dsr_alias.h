/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The backend's node leads packets of a connection that come by another way, or from another port,
 * to the port that the backend knows the client by.
 */
#pragma once

#include "dsr_insert.h"
#include "flow_table.h"
#include "report.h"
#include "route.h"
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
 * Leads @key's packets to where scratch->forward says: addresses, ports, partner_zone, flags and
 * target are set. Returns 0 or the drop reason.
 *
 * Such an entry is never marked as seen in this tick: each packet then makes sure that the tuple is
 * still that connection's (flow_note()). What ends it there knows nothing of the entry.
 */
static __always_inline int dsr_alias_store(struct __sk_buff *skb, struct scratch *scratch,
					   const struct flow_key *key, __u32 now)
{
	struct flow *forward = &scratch->forward;
	long err;

	forward->tcp_own = flow_tcp_bits(&scratch->packet);
	forward->last_seen = now - 1;
	forward->created = now;
	if (route_find(skb, forward))
		return DROP_NO_ROUTE;
	rewrite_prepare(key, forward);
	/* What else is known under this tuple is of a connection that is over. */
	if (forward->flags & FLOW_NEW) {
		bpf_map_delete_elem(&flows, key);
		err = flow_store(&flows_new, key, forward, BPF_ANY);
	} else {
		err = flow_store(&flows, key, forward, BPF_ANY);
		bpf_map_delete_elem(&flows_new, key);
	}
	return err ? DROP_FLOWS_FULL : 0;
}

/*
 * Leads packets to the flow of scratch->packet's backend with another port of the client's, where
 * dsr_open() has said so. Returns 0, or the reason to drop this one. A function of its own, which
 * dsr_open() does not call, for the stack's sake.
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
	int why;

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
	forward->target = connection;
	forward->partner_zone = scratch->reverse_key.zone;
	forward->flags = lead->flags;
	why = dsr_alias_store(skb, scratch, &key, now);
	return lead->must ? why : 0;
}
