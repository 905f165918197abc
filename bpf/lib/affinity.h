/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sessionAffinity ClientIP: which target a client was given last.
 *
 * Clients outside and pods served per packet are known by their address. A socket hook knows a
 * network namespace's cookie, which `clients` turns into the pod's address, so that both ways
 * agree. The node's own sockets are one client, the unspecified address.
 */
#pragma once

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
