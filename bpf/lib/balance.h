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
 * Fills @plan for @backend, with the output in scratch->forward. Returns 0 or the drop reason.
 */
static __noinline int balance_plan(struct __sk_buff *skb, const struct packet *packet,
				   const struct service *service, const struct backend *backend,
				   struct flow_plan *plan)
{
	struct flow_scratch *scratch = flow_scratch();
	const struct uplink *uplink;
	struct flow *forward;

	if (!scratch)
		return DROP_FLOWS_FULL;
	forward = &scratch->forward;
	__builtin_memset(forward, 0, sizeof(*forward));

	plan->saddr = packet->key.saddr;
	plan->daddr = backend->addr;
	plan->dport = backend->port;
	plan->service = service->id;
	plan->target = backend->target;
	plan->target_epoch = backend->target_epoch;

	forward->saddr = plan->saddr;
	forward->daddr = plan->daddr;
	if (route_find(skb, forward))
		return DROP_NO_ROUTE;

	switch (forward->kind) {
	case FLOW_LOCAL:
		plan->reverse_zone = ZONE_POD;
		plan->reverse_input = forward->ifindex;
		if (addr_equal(&plan->saddr, &plan->daddr)) {
			/* A pod reaches itself: it would answer itself past us. */
			plan->flags |= FLOW_HAIRPIN;
			if (addr_is_v4(&plan->daddr))
				addr_set_v4(&plan->saddr, CONFIG.hairpin_v4.w[3]);
			else
				for (int i = 0; i < 2; i++)
					plan->saddr.d[i] = CONFIG.hairpin_v6.d[i];
		}
		return 0;
	case FLOW_STACK:
		plan->reverse_zone = ZONE_HOST;
		return 0;
	default:
		break;
	}

	plan->reverse_zone = ZONE_WIRE;
	if (packet->key.zone == ZONE_POD)
		return 0;
	uplink = uplink_lookup(forward->ifindex);
	if (!uplink)
		return DROP_SNAT_ADDRESS;
	plan->saddr = addr_is_v4(&plan->daddr) ? uplink->snat_v4 : uplink->snat_v6;
	plan->own_address = 1;
	return addr_is_zero(&plan->saddr) ? DROP_SNAT_ADDRESS : 0;
}

/*
 * Serves @packet, whose destination is @service and which has no flow. Returns the tc action.
 */
static __always_inline int balance(struct __sk_buff *skb, const struct packet *packet,
				   const struct service *service, enum hook hook, __u32 now,
				   const bool v6)
{
	const __u8 zone = packet->key.zone;
	struct flow_scratch *scratch;
	const struct backend *backend;
	struct flow_plan plan = {};
	int why;

	if (zone != ZONE_POD && service->kind == SERVICE_CLUSTER_IP)
		return report_drop(skb, packet, hook, DROP_CLUSTER_IP, service->id);
	if (balance_is_empty(service, zone)) {
		if (service->flags & SERVICE_HAS_ENDPOINTS)
			return report_drop(skb, packet, hook, DROP_NO_LOCAL, service->id);
		return reject(skb, packet, hook, REJECT_NO_ENDPOINTS, 0, service->id, v6);
	}

	backend = balance_choose(service, zone);
	if (!backend) {
		/* The slots of this generation are gone: the table flipped under us. */
		service = balance_frontend(packet);
		if (!service)
			return report_drop(skb, packet, hook, DROP_NO_BACKEND, 0);
		backend = balance_choose(service, zone);
		if (!backend)
			return report_drop(skb, packet, hook, DROP_NO_BACKEND, service->id);
	}

	why = balance_plan(skb, packet, service, backend, &plan);
	if (why)
		return report_drop(skb, packet, hook, why, service->id);
	scratch = flow_scratch();
	if (!scratch)
		return report_drop(skb, packet, hook, DROP_FLOWS_FULL, service->id);
	if (packet->ttl <= 1 && scratch->forward.kind != FLOW_STACK)
		return reject(skb, packet, hook, REJECT_TTL_EXPIRED, 0, service->id, v6);
	why = flow_open(skb, packet, &plan, now);
	if (why != OUTCOME_TRANSLATED)
		return report_drop(skb, packet, hook, why, plan.service);

	if (rewrite_packet(skb, packet, &scratch->forward, scratch->forward.kind != FLOW_STACK, v6))
		return report_drop(skb, packet, hook, DROP_REWRITE, plan.service);
	return output_flow(skb, packet, hook, &scratch->forward, true);
}
