/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sessionAffinity ClientIP: which target a client was given last.
 *
 * Clients outside and pods served per packet are known by their address. A socket hook knows a
 * network namespace's cookie, which `clients` turns into the pod's address, so that both ways
 * agree. The node's own sockets are one client, the unspecified address.
 */
#pragma once

#include "clock.h"
#include "map_update.h"
#include "service.h"

#define AFFINITIES_MAX 65536
#define CLIENTS_MAX 4096

struct affinity_key {
	struct addr client;
	__u32 service;
	__u32 pad;
};
_Static_assert(sizeof(struct affinity_key) == 24, "affinity_key is map ABI");

struct affinity {
	__u32 target; /* index into target_state, which says its slot now */
	__u16 target_epoch;
	__u16 pad;
	__u32 last_used; /* ticks (clock.h), moved by each new connection */
	__u32 pad2;
};
_Static_assert(sizeof(struct affinity) == 16, "affinity is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
	__uint(max_entries, AFFINITIES_MAX);
} affinities SEC(".maps");

/* A pod's addresses, by the cookie of its network namespace. */
struct client {
	struct addr v4; /* zero: it has none */
	struct addr v6;
};
_Static_assert(sizeof(struct client) == 32, "client is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, struct client);
	__uint(max_entries, CLIENTS_MAX);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} clients SEC(".maps");

/*
 * The backend that @client was given last, as long as it may have it still: in time, alive, and one
 * of @range. NULL when it may not; then choose, and tell affinity_store(). A hit is a new
 * connection, so it restarts the timeout.
 *
 * An entry may be reused for another client while we read it. What it says is believed only if the
 * slot agrees, so the worst is a backend that this client may be given anyway.
 */
static __always_inline const struct backend *affinity_find(const struct service *service,
							   const struct slot_range *range,
							   const struct addr *client)
{
	const struct affinity_key key = {.client = *client, .service = service->id};
	const struct target_state *state;
	const struct backend *backend;
	struct affinity *affinity = bpf_map_lookup_elem(&affinities, &key);
	__u32 now, target;
	__u16 epoch, slot;

	if (!affinity)
		return NULL;
	target = affinity->target;
	epoch = affinity->target_epoch;
	now = clock_ticks();
	/* Signed: another CPU may be in the next tick already. And one tick more than the timeout,
	 * since what is left of the first may be nothing. */
	if ((__s32)(now - affinity->last_used) > (__s32)service->affinity_timeout)
		return NULL;

	state = bpf_map_lookup_elem(&target_state, &target);
	if (!state || !target_is(state, epoch))
		return NULL;
	slot = state->slot;
	if ((__u16)(slot - range->first) >= range->count)
		return NULL;
	backend = backend_lookup(service, slot);
	if (!backend || backend->target != target || backend->target_epoch != epoch)
		return NULL;
	if (affinity->last_used != now)
		affinity->last_used = now;
	return backend;
}

/* @client's connections to @service go to @backend from now on. */
static __always_inline void affinity_store(const struct service *service, const struct addr *client,
					   const struct backend *backend)
{
	const struct affinity_key key = {.client = *client, .service = service->id};
	const struct affinity affinity = {
		.target = backend->target,
		.target_epoch = backend->target_epoch,
		.last_used = clock_ticks(),
	};

	/* A full table throws its oldest out; nothing else fails that a connection should suffer
	 * for. */
	map_update(&affinities, &key, &affinity, BPF_ANY);
}
