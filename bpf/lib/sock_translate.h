/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the address a socket names to the backend that serves it, and the errno when none does.
 *
 * Callers are programs of every kind and in-kernel clients (NFS, SMB) that spin on errnos
 * connect(2) does not list: ECONNREFUSED and EHOSTUNREACH are all they ever see.
 */
#pragma once

#include "event.h"
#include "outcome.h"
#include "sock_client.h"
#include "sock_nat.h"
#include "source_range.h"

struct sock_dest {
	struct addr addr;
	__be16 port;
	__u8 proto;
	bool connecting; /* connect(2) chooses anew, a datagram keeps to the last choice */
};

enum sock_verdict {
	SOCK_PASS = 0,	  /* not a service: the address stays */
	SOCK_REWRITE = 1, /* the destination is now the backend */
	SOCK_REFUSED = 2, /* the call fails with the errno that was set */
};

/*
 * Fails the call with @error; @service is an id or 0. Below 6.1 the hook cannot name an errno; the
 * address then stays, and bpf_lxc and bpf_host answer the packets.
 */
static __always_inline enum sock_verdict sock_refuse(const struct sock_dest *dest, __u32 service,
						     enum outcome outcome, int error)
{
	const struct event event = {
		.time = bpf_ktime_get_ns(),
		.daddr = dest->addr,
		.dport = dest->port,
		.service = service,
		.error = -error,
		.type = EVENT_DROP,
		.hook = HOOK_SOCKET,
		.outcome = outcome,
		.proto = dest->proto,
	};

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_set_retval))
		return SOCK_PASS;
	outcome_count(outcome, HOOK_SOCKET, 0);
	event_send(&event);
	bpf_set_retval(-error);
	return SOCK_REFUSED;
}

static __always_inline enum sock_verdict sock_refuse_empty(const struct sock_dest *dest,
							   const struct service *service)
{
	if (service->flags & SERVICE_HAS_ENDPOINTS)
		return sock_refuse(dest, service->id, DROP_NO_LOCAL, EHOSTUNREACH);
	return sock_refuse(dest, service->id, OUTCOME_REJECTED, ECONNREFUSED);
}

static __always_inline __u32 sock_pick(const struct service *service)
{
	const struct slot_range range = service->inside;

	if (range.count <= 1)
		return range.first;
	return range.first + ((__u64)bpf_get_prandom_u32() * range.count >> 32);
}

/* The backend at @slot of @service, or what @client had before where the service wants that. */
static __always_inline const struct backend *sock_choose(const struct service *service, __u32 slot,
							 const struct addr *client)
{
	const struct backend *backend;

	if (!(service->flags & SERVICE_AFFINITY))
		return backend_lookup(service, slot);
	backend = affinity_find(service, &service->inside, client);
	if (backend)
		return backend;
	backend = backend_lookup(service, slot);
	if (backend)
		affinity_store(service, client, backend);
	return backend;
}

/* Whether a datagram to @service may go on to what @entry says. */
static __always_inline bool sock_nat_valid(const struct sock_nat_entry *entry,
					   const struct service *service)
{
	return entry->service == service->id && target_alive(entry->target, entry->target_epoch);
}

/*
 * Whether @entry holds what is at @slot of @service: its target tells its own slot, without a call.
 * Spares a socket that connects again the backend's lookup, and writing the same once more.
 */
static __always_inline bool sock_nat_is_at(const struct sock_nat_entry *entry,
					   const struct service *service, __u32 slot)
{
	const struct target_state *state;

	if (entry->service != service->id)
		return false;
	state = bpf_map_lookup_elem(&target_state, &entry->target);
	return state && state->status == TARGET_ACTIVE && state->epoch == entry->target_epoch &&
	       state->slot == slot;
}

static __always_inline void sock_rewrite(struct sock_dest *dest, const struct addr *addr,
					 __be16 port)
{
	dest->addr = *addr;
	dest->port = port;
	outcome_count(OUTCOME_TRANSLATED, HOOK_SOCKET, 0);
}

/* Leaves the address alone, and forgets that a frontend may have stood for it. */
static __always_inline enum sock_verdict sock_pass(struct bpf_sock_addr *ctx,
						   const struct sock_dest *dest)
{
	struct sock_nat *nat;

	if (!sock_has_storage(ctx))
		return SOCK_PASS;
	nat = sock_nat_get(ctx);
	if (nat)
		sock_nat_unshow(nat, &dest->addr, dest->port);
	return SOCK_PASS;
}

/* Writes into the socket what @dest, still the frontend, is replaced by. */
static __always_inline void sock_remember(struct sock_nat *nat, const struct sock_dest *dest,
					  const struct service *service,
					  const struct backend *backend)
{
	struct sock_nat_entry *entry =
		sock_nat_take(nat, &dest->addr, dest->port, &backend->addr, backend->port);

	entry->backend = backend->addr;
	entry->frontend = dest->addr;
	entry->backend_port = backend->port;
	entry->frontend_port = dest->port;
	entry->service = service->id;
	entry->target = backend->target;
	entry->target_epoch = backend->target_epoch;
	entry->proto = dest->proto;
	sock_nat_set_flags(entry, SOCK_NAT_USED | SOCK_NAT_SHOWN);
}

/*
 * Whether the packets of this socket are refused when they leave the pod, so that connect(2) may
 * succeed as it does with any address. ping(8) connects a datagram socket to some port before it
 * asks for an echo, and gives up where that fails.
 */
static __always_inline bool sock_refused_later(struct bpf_sock_addr *ctx,
					       const struct sock_dest *dest)
{
	struct addr client;

	return dest->proto == IPPROTO_UDP && dest->connecting &&
	       sock_client(ctx, &dest->addr, &client) == SOCK_CLIENT_POD;
}

/* Leaves alone, or refuses, what is no service for this socket. */
static __always_inline enum sock_verdict sock_unserved(struct bpf_sock_addr *ctx,
						       const struct sock_dest *dest, bool closed)
{
	if (closed && !sock_refused_later(ctx, dest))
		return sock_refuse(dest, 0, DROP_UNKNOWN_PORT, ECONNREFUSED);
	return sock_pass(ctx, dest);
}

/* Turns @dest into what it was the last time. */
static __always_inline enum sock_verdict sock_reuse(struct sock_nat *nat, struct sock_dest *dest,
						    struct sock_nat_entry *entry)
{
	if (!(entry->flags & SOCK_NAT_SHOWN))
		sock_nat_show(nat, entry);
	sock_rewrite(dest, &entry->backend, entry->backend_port);
	return SOCK_REWRITE;
}

/* Turns @dest into a backend of @service for a new connection. */
static __always_inline enum sock_verdict
sock_connect(struct bpf_sock_addr *ctx, struct sock_dest *dest, const struct service *service,
	     struct sock_nat *nat, struct sock_nat_entry *entry)
{
	const bool by_client = service->flags & (SERVICE_AFFINITY | SERVICE_SOURCE_RANGES);
	enum sock_client_kind kind = SOCK_CLIENT_NODE;
	const __u32 slot = sock_pick(service);
	const struct backend *backend;
	struct addr client = {};
	bool closed;

	if (by_client)
		kind = sock_client(ctx, &dest->addr, &client);
	else if (entry && sock_nat_is_at(entry, service, slot))
		return sock_reuse(nat, dest, entry);

	if ((service->flags & SERVICE_SOURCE_RANGES) && kind != SOCK_CLIENT_NODE) {
		/* Its packets will tell its address. */
		if (kind == SOCK_CLIENT_UNKNOWN)
			return sock_pass(ctx, dest);
		if (!source_range_permits(service, &client))
			return sock_refuse(dest, service->id, DROP_DENIED, EHOSTUNREACH);
	}

	backend = sock_choose(service, slot, &client);
	if (!backend) {
		/* The agent moved the service to its next generation in between: read it again. */
		service = sock_frontend(ctx, &dest->addr, dest->port, dest->proto, &closed);
		if (!service)
			return sock_unserved(ctx, dest, closed);
		if (!service->inside.count)
			return sock_refuse_empty(dest, service);
		backend = sock_choose(service, sock_pick(service), &client);
		if (!backend)
			return sock_refuse(dest, service->id, DROP_NO_BACKEND, EHOSTUNREACH);
	}

	if (nat)
		sock_remember(nat, dest, service, backend);
	sock_rewrite(dest, &backend->addr, backend->port);
	return SOCK_REWRITE;
}

/* Turns @dest into the backend that serves it. */
static __always_inline enum sock_verdict sock_translate(struct bpf_sock_addr *ctx,
							struct sock_dest *dest)
{
	struct sock_nat_entry *entry = NULL;
	const struct service *service;
	struct sock_nat *nat;
	bool closed;

	addr_resolve_unspecified(&dest->addr);
	service = sock_frontend(ctx, &dest->addr, dest->port, dest->proto, &closed);
	if (!service)
		return sock_unserved(ctx, dest, closed);
	if (!service->inside.count)
		return sock_refuse_empty(dest, service);

	nat = sock_nat_get_or_create(ctx);
	if (nat)
		entry = sock_nat_find(nat, &dest->addr, dest->port);
	/* Without a record UDP replies would come from an address the client never named. */
	else if (dest->proto == IPPROTO_UDP)
		return sock_refuse(dest, service->id, DROP_NO_BACKEND, EHOSTUNREACH);
	if (entry && !dest->connecting && sock_nat_valid(entry, service))
		return sock_reuse(nat, dest, entry);
	return sock_connect(ctx, dest, service, nat, entry);
}
