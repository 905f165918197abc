/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The first packet of a service connection: which frontend, which backend, by which way.
 *
 * What it decides goes into the flow table; later packets never come here.
 */
#pragma once

#include "flow_open.h"
#include "owned.h"
#include "reject.h"
#include "service.h"
#include "uplink.h"

/* The frontend that @packet asks for, or NULL when its destination is nobody's service. */
static __always_inline const struct service *balance_frontend(const struct packet *packet)
{
	const struct service *service;
	const struct owned *owned;
	__u16 port = bpf_ntohs(packet->key.dport);

	service = service_lookup(&packet->key.daddr, packet->key.dport, packet->key.proto);
	if (service)
		return service;
	if (!CONFIG.nodeport || port < CONFIG.nodeport_min || port > CONFIG.nodeport_max)
		return NULL;
	owned = owned_lookup(&packet->key.daddr);
	if (!owned || !(owned->flags & OWNED_NODEPORT))
		return NULL;
	return service_lookup_wildcard(&packet->key.daddr, packet->key.dport, packet->key.proto);
}

/* A backend of @service for clients of @zone, by chance. NULL when that list is empty. */
static __always_inline const struct backend *balance_choose(const struct service *service,
							    __u8 zone)
{
	const struct slot_range *range = zone == ZONE_POD ? &service->inside : &service->outside;
	__u32 slot;

	if (!range->count)
		return NULL;
	slot = range->first + (((__u64)bpf_get_prandom_u32() * range->count) >> 32);
	return backend_lookup(service, slot);
}

static __always_inline bool balance_is_empty(const struct service *service, __u8 zone)
{
	return !(zone == ZONE_POD ? service->inside.count : service->outside.count);
}

/*
 * Fills scratch->plan for @backend, and the output in scratch->forward. Returns 0 or the drop
 * reason.
 */
static __always_inline int balance_plan(struct __sk_buff *skb, struct scratch *scratch,
					const struct service *service,
					const struct backend *backend)
{
	const struct packet *packet = &scratch->packet;
	struct flow *forward = &scratch->forward;
	struct flow_plan *plan = &scratch->plan;
	const struct uplink *uplink;

	*plan = (struct flow_plan){
		.saddr = packet->key.saddr,
		.daddr = backend->addr,
		.dport = backend->port,
		.service = service->id,
		.target = backend->target,
		.target_epoch = backend->target_epoch,
	};
	__builtin_memset(forward, 0, sizeof(*forward));
	forward->saddr = plan->saddr;
	forward->daddr = plan->daddr;
	if (route_find(skb, forward))
		return DROP_NO_ROUTE;

	if (forward->kind == FLOW_STACK) {
		plan->reverse_zone = ZONE_HOST;
		return 0;
	}
	if (forward->kind == FLOW_LOCAL) {
		plan->reverse_zone = ZONE_POD;
		plan->reverse_input = forward->ifindex;
		if (addr_equal(&plan->saddr, &plan->daddr)) {
			/* A pod reaches itself: it would answer itself past us. */
			plan->flags = FLOW_HAIRPIN;
			if (addr_is_v4(&plan->daddr)) {
				addr_set_v4(&plan->saddr, CONFIG.hairpin_v4.w[3]);
			} else {
				plan->saddr.d[0] = CONFIG.hairpin_v6.d[0];
				plan->saddr.d[1] = CONFIG.hairpin_v6.d[1];
			}
		}
		return 0;
	}

	plan->reverse_zone = ZONE_WIRE;
	if (packet->key.zone == ZONE_POD)
		return 0;
	uplink = uplink_lookup(forward->ifindex);
	if (!uplink)
		return DROP_SNAT_ADDRESS;
	plan->saddr = addr_is_v4(&plan->daddr) ? uplink->snat_v4 : uplink->snat_v6;
	plan->own_address = 1;
	plan->flags = FLOW_OWN_SOURCE;
	forward->flags |= FLOW_OWN_SOURCE;
	return addr_is_zero(&plan->saddr) ? DROP_SNAT_ADDRESS : 0;
}

/* Carries out scratch->forward on scratch->packet, the first of its flow. Returns the verdict. */
static __always_inline int balance_send(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct flow *forward = &scratch->forward;
	const __u8 hop = !output_by_stack(forward) && scratch->packet.key.zone != ZONE_HOST;
	const bool v4 = addr_is_v4(&scratch->packet.key.saddr);

	if (v4 ? rewrite_packet(skb, &scratch->packet, forward, hop, false)
	       : rewrite_packet(skb, &scratch->packet, forward, hop, true))
		return verdict_drop(DROP_REWRITE);
	return output_flow(skb, forward, true);
}

/*
 * Serves scratch->packet, whose destination is a service and which has no flow. Returns the
 * verdict.
 */
__noinline int balance_first(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const struct service *service;
	const struct backend *backend;
	__u8 zone;
	int why;

	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	zone = scratch->packet.key.zone;
	service = balance_frontend(&scratch->packet);
	if (!service)
		return verdict_drop(DROP_NO_BACKEND);
	scratch->packet.service = service->id;

	if (zone != ZONE_POD && service->kind == SERVICE_CLUSTER_IP)
		return verdict_drop(DROP_CLUSTER_IP);
	if (balance_is_empty(service, zone)) {
		if (service->flags & SERVICE_HAS_ENDPOINTS)
			return verdict_drop(DROP_NO_LOCAL);
		return reject_send(skb, REJECT_NO_ENDPOINTS, 0);
	}

	backend = balance_choose(service, zone);
	if (!backend) {
		/* The slots of this generation are gone: the table flipped under us. */
		service = balance_frontend(&scratch->packet);
		if (!service)
			return verdict_drop(DROP_NO_BACKEND);
		backend = balance_choose(service, zone);
		if (!backend)
			return verdict_drop(DROP_NO_BACKEND);
	}

	why = balance_plan(skb, scratch, service, backend);
	if (why)
		return verdict_drop(why);
	if (scratch->packet.ttl <= 1 && !output_by_stack(&scratch->forward))
		return reject_send(skb, REJECT_TTL_EXPIRED, 0);
	why = flow_open(skb);
	if (why)
		return verdict_drop(why);
	return balance_send(skb, scratch);
}

/* Serves @packet if its destination is a service. */
static __always_inline int balance(struct __sk_buff *skb, struct packet *packet)
{
	int decided;

	if (!balance_frontend(packet))
		return VERDICT_NONE;
	if (!scratch_put(packet))
		return verdict_drop(DROP_FLOWS_FULL);
	decided = balance_first(skb);
	packet->service = scratch_service();
	return decided;
}
