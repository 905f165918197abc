/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which frontend a packet asks for, which backend it gets, and by which way. Nothing is written. */
#pragma once

#include "affinity.h"
#include "dsr_option.h"
#include "maglev.h"
#include "nodes.h"
#include "owned.h"
#include "report.h"
#include "route.h"
#include "scratch.h"
#include "service.h"
#include "uplink.h"
#include "vip.h"

/*
 * An external IP that only the network in front of the cluster may claim, and a hostIP that is not
 * this node's: whoever may write a service or a pod could otherwise take any address's traffic from
 * the pods (CVE-2020-8554).
 */
static __always_inline bool choose_is_withheld(const struct packet *packet,
					       const struct service *service)
{
	const bool external = !CONFIG.external_ips_inside && packet->key.zone == ZONE_POD;
	const __u32 kinds = 1 << SERVICE_HOST_PORT | external << SERVICE_EXTERNAL_IP;

	return service_is_one_of(service->kind, kinds) && !owned_lookup(&packet->key.daddr);
}

/* Whether a wildcard frontend may have @port, in host byte order. */
static __always_inline bool choose_may_be_wildcard(__u16 port)
{
	const struct settings *settings;

	if (CONFIG.nodeport && port >= CONFIG.nodeport_min && port <= CONFIG.nodeport_max)
		return true;
	settings = settings_get();
	return settings && settings->host_ports;
}

/* As choose_frontend(), where @vip is what `vips` has for the destination, or NULL. */
static __always_inline const struct service *choose_frontend_at(const struct packet *packet,
								const struct vip *vip)
{
	const struct service *service;
	const struct owned *owned;

	if (vip) {
		service = service_lookup(&packet->key.daddr, packet->key.dport, packet->key.proto);
		if (service && !choose_is_withheld(packet, service))
			return service;
	}
	if (!choose_may_be_wildcard(bpf_ntohs(packet->key.dport)))
		return NULL;
	owned = owned_lookup(&packet->key.daddr);
	if (!owned || !(owned->flags & OWNED_NODEPORT))
		return NULL;
	return service_lookup_wildcard(&packet->key.daddr, packet->key.dport, packet->key.proto);
}

/* The frontend that @packet asks for, or NULL when its destination is nobody's service. */
static __always_inline const struct service *choose_frontend(const struct packet *packet)
{
	return choose_frontend_at(packet, vip_lookup(&packet->key.daddr));
}

static __always_inline const struct slot_range *choose_range(const struct service *service,
							     __u8 zone)
{
	return zone == ZONE_POD ? &service->inside : &service->outside;
}

/*
 * What falls to a new connection. From the wire it is the same for each look at one packet (the
 * finalizer of splitmix64 over its addresses and ports): the driver hook keeps only connections to
 * other nodes, and tc drawing anew for the rest would give local backends less than their share.
 */
static __always_inline __u32 choose_number(const struct flow_key *key)
{
	__u64 mix;

	if (key->zone != ZONE_WIRE)
		return bpf_get_prandom_u32();
	mix = key->saddr.d[0] * 0x9e3779b97f4a7c15 + key->saddr.d[1];
	mix = mix * 0x9e3779b97f4a7c15 + key->daddr.d[0] + key->daddr.d[1];
	mix = mix * 0x9e3779b97f4a7c15 + ((__u64)key->sport << 16 | key->dport);
	mix = (mix ^ (mix >> 30)) * 0xbf58476d1ce4e5b9;
	mix = (mix ^ (mix >> 27)) * 0x94d049bb133111eb;
	return mix >> 32;
}

/* A backend of @service for @key's packet. NULL when that list is empty. */
static __always_inline const struct backend *choose_backend(const struct service *service,
							    const struct flow_key *key)
{
	const struct slot_range *range = choose_range(service, key->zone);
	__u32 number;

	if (!range->count)
		return NULL;
	if (!maglev_choose(service, range, key, &number))
		number = ((__u64)choose_number(key) * range->count) >> 32;
	return backend_lookup(service, range->first + number);
}

/* As choose_backend(), but a service with affinity gives @packet's sender what it had before. */
static __always_inline const struct backend *choose_backend_for(const struct service *service,
								const struct packet *packet)
{
	const struct flow_key *key = &packet->key;
	const struct backend *backend;

	if (!(service->flags & SERVICE_AFFINITY))
		return choose_backend(service, key);
	backend = affinity_find(service, choose_range(service, key->zone), &key->saddr);
	if (backend)
		return backend;
	backend = choose_backend(service, key);
	if (backend)
		affinity_store(service, &key->saddr, backend);
	return backend;
}

static __always_inline bool choose_is_empty(const struct service *service, __u8 zone)
{
	return !choose_range(service, zone)->count;
}

/*
 * Whether @backend, a remote one, is to answer @packet's sender itself. A flow whose first packet
 * cannot carry the option gets SNAT, and so does one whose backend's node is not known.
 */
static __always_inline bool choose_direct_return(const struct packet *packet,
						 const struct service *service,
						 const struct backend *backend)
{
	const bool v6 = !addr_is_v4(&packet->key.saddr);

	return CONFIG.dsr_dispatch && (service->flags & SERVICE_DSR) && !packet->fragment &&
	       packet->key.zone == ZONE_WIRE && packet->key.sport && dsr_has_room(packet, v6) &&
	       dsr_ready(v6) && (CONFIG.dsr_dispatch != DSR_GENEVE || node_lookup(&backend->addr));
}

/*
 * Fills scratch->plan for @backend, and the output in scratch->forward. Returns 0 or the drop
 * reason.
 */
static __always_inline int choose_way(CTX *ctx, struct scratch *scratch,
				      const struct service *service, const struct backend *backend)
{
	const struct packet *packet = &scratch->packet;
	struct flow *forward = &scratch->forward;
	struct flow_plan *plan = &scratch->plan;
	const struct uplink *uplink;

	if (packet->key.zone == ZONE_WIRE && addr_is_martian(&packet->key.saddr))
		return DROP_SPOOFED;
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
	if (route_find(ctx, forward))
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
	if (choose_direct_return(packet, service, backend)) {
		plan->flags = FLOW_DSR | FLOW_OPTION;
		/* The outer source is the node's: the stack would take it for a martian. */
		if (CONFIG.dsr_dispatch != DSR_OPTION)
			plan->flags |= FLOW_OWN_SOURCE;
		forward->flags |= plan->flags;
		return 0;
	}
	uplink = uplink_lookup(forward->ifindex);
	if (!uplink)
		return DROP_SNAT_ADDRESS;
	plan->saddr = addr_is_v4(&plan->daddr) ? uplink->snat_v4 : uplink->snat_v6;
	plan->own_address = 1;
	plan->flags = FLOW_OWN_SOURCE;
	forward->flags |= FLOW_OWN_SOURCE;
	return addr_is_zero(&plan->saddr) ? DROP_SNAT_ADDRESS : 0;
}
