/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The first packet of a service connection: which frontend, which backend, by which way.
 *
 * What it decides goes into the flow table; later packets never come here.
 */
#pragma once

#include "choose.h"
#include "dsr_join.h"
#include "dsr_send.h"
#include "flow_open.h"
#include "reject.h"
#include "rewrite_fragment.h"
#include "source_range.h"
#include "unserved.h"

/*
 * Drops scratch->packet, whose flow has just been opened, and the flow with it: nobody ever saw the
 * port that it was given, so nothing about that may be translated. Returns the verdict.
 */
static __always_inline int balance_unsent(const struct scratch *scratch, enum outcome why)
{
	if (!(scratch->forward.flags & FLOW_DSR_ALIAS))
		flow_close(&scratch->packet.key, &scratch->forward);
	return verdict_drop(why);
}

/* Carries out scratch->forward on scratch->packet, the first of its flow. Returns the verdict. */
static __always_inline int balance_send(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct flow *forward = &scratch->forward;
	const __u8 hop = !output_by_stack(forward) && scratch->packet.key.zone != ZONE_HOST;
	const bool v4 = addr_is_v4(&scratch->packet.key.saddr);

	if (scratch->packet.fragment) {
		if (rewrite_fragment(skb, &scratch->packet, forward, hop, true))
			return balance_unsent(scratch, rewrite_failure(&scratch->packet));
	} else if (v4 ? rewrite_packet(skb, &scratch->packet, forward, hop, false)
		      : rewrite_packet(skb, &scratch->packet, forward, hop, true)) {
		return balance_unsent(scratch, DROP_REWRITE);
	}
	return output_flow(skb, forward, true);
}

/*
 * Plans scratch->packet's way to a proxy in the host's stack, which serves the local backends of
 * such a service itself. Its packets stay what they are; they have a flow so that all of them meet
 * the choice that the first one made.
 */
static __always_inline void balance_delegate(struct scratch *scratch, const struct service *service,
					     const struct backend *backend)
{
	const struct packet *packet = &scratch->packet;

	scratch->plan = (struct flow_plan){
		.saddr = packet->key.saddr,
		.daddr = packet->key.daddr,
		.dport = packet->key.dport,
		.reverse_zone = ZONE_HOST,
		.service = service->id,
		.target = backend->target,
		.target_epoch = backend->target_epoch,
		.flags = FLOW_TO_STACK,
	};
	__builtin_memset(&scratch->forward, 0, sizeof(scratch->forward));
	scratch->forward.kind = FLOW_STACK;
}

/*
 * Plans scratch->packet's flow: its destination is a service, and it has none. Returns VERDICT_NONE
 * when it can be opened, else the verdict. Apart from balance_open(), or the stack frames of both
 * would add up beyond what the verifier lets a chain of calls have.
 */
__noinline int balance_plan(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const struct service *service;
	const struct backend *backend;
	__u8 zone;
	int why;

	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	zone = scratch->packet.key.zone;
	service = choose_frontend(&scratch->packet);
	if (!service)
		return verdict_drop(DROP_NO_BACKEND);
	scratch->packet.service = service->id;

	if (zone != ZONE_POD && service->kind == SERVICE_CLUSTER_IP)
		return unserved_cluster_ip();
	if ((service->flags & SERVICE_SOURCE_RANGES) &&
	    !source_range_permits(service, &scratch->packet.key.saddr))
		return verdict_drop(DROP_DENIED);
	if (choose_is_empty(service, zone)) {
		if (service->flags & SERVICE_HAS_ENDPOINTS)
			return verdict_drop(DROP_NO_LOCAL);
		return reject_send(skb, REJECT_NO_ENDPOINTS, 0);
	}

	backend = choose_backend_for(service, &scratch->packet);
	if (!backend) {
		/* The slots of this generation are gone: the table flipped under us. */
		service = choose_frontend(&scratch->packet);
		if (!service)
			return verdict_drop(DROP_NO_BACKEND);
		backend = choose_backend_for(service, &scratch->packet);
		if (!backend)
			return verdict_drop(DROP_NO_BACKEND);
	}

	if ((service->flags & SERVICE_DELEGATE) && (backend->flags & BACKEND_LOCAL)) {
		balance_delegate(scratch, service, backend);
	} else {
		why = choose_way(skb, scratch, service, backend);
		if (why)
			return verdict_drop(why);
	}
	if (scratch->packet.ttl <= 1 && !output_by_stack(&scratch->forward))
		return reject_send(skb, REJECT_TTL_EXPIRED, 0);
	return VERDICT_NONE;
}

/* Opens the planned flow of scratch->packet and sends that. Returns the verdict. */
__noinline int balance_open(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	int why;

	if (!scratch)
		return verdict_drop(DROP_FLOWS_FULL);
	if (FROM_WIRE && CONFIG.dsr_dispatch && scratch->plan.reverse_zone != ZONE_WIRE &&
	    dsr_join(skb)) {
		/* Where it leads may be behind another hop than what was planned. */
		if (scratch->packet.ttl <= 1 && !output_by_stack(&scratch->forward))
			return reject_send(skb, REJECT_TTL_EXPIRED, 0);
		return balance_send(skb, scratch);
	}
	why = flow_open(skb);
	if (why)
		return verdict_drop(why);
	if (FROM_WIRE && CONFIG.dsr_dispatch && (scratch->forward.flags & FLOW_DSR))
		return dsr_send_first(skb);
	return balance_send(skb, scratch);
}

/* Serves scratch->packet, the first to a frontend. Returns the verdict. */
static __always_inline int balance_first(struct __sk_buff *skb)
{
	const int decided = balance_plan(skb);

	return decided == VERDICT_NONE ? balance_open(skb) : decided;
}

/* Serves @packet if its destination is a service, and answers for the addresses of services. */
static __always_inline int balance(struct __sk_buff *skb, struct packet *packet, enum parsed parsed)
{
	const struct vip *vip = vip_lookup(&packet->key.daddr);
	const struct service *service = NULL;
	int decided;

	if (parsed == PARSED_L4)
		service = choose_frontend_at(packet, vip);
	if (!service && !vip)
		return VERDICT_NONE;
	if (!scratch_put(packet))
		return verdict_drop(DROP_FLOWS_FULL);
	decided = service ? balance_first(skb) : unserved(skb, parsed == PARSED_L4);
	packet->service = scratch_service();
	return decided;
}
