/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The service table: frontend -> which slots of which backend list serve it.
 *
 * Only the agent writes these maps. It writes a new generation of slots first, then flips the
 * services to it one by one, so that no packet meets a half-written list.
 */
#pragma once

#include "addr.h"

#define SERVICES_MAX 65536
#define BACKENDS_MAX 262144
#define TARGETS_MAX 262144

/*
 * A wildcard frontend (NodePort, hostPort) serves every address in `owned` and has the unspecified
 * address of its family as vip: ::ffff:0.0.0.0 or ::.
 */
struct service_key {
	struct addr vip;
	__be16 port;
	__u8 proto; /* IPPROTO_* */
	__u8 pad[5];
};
_Static_assert(sizeof(struct service_key) == 24, "service_key is map ABI");

enum service_kind {
	SERVICE_CLUSTER_IP = 1,
	SERVICE_NODE_PORT = 2,
	SERVICE_EXTERNAL_IP = 3,
	SERVICE_LOAD_BALANCER = 4,
	SERVICE_HOST_PORT = 5,
};

enum service_flag {
	/* The service has a usable endpoint somewhere: an empty slot range drops instead of
	   refusing. */
	SERVICE_HAS_ENDPOINTS = 1 << 0,
	SERVICE_AFFINITY = 1 << 1,
	SERVICE_SOURCE_RANGES = 1 << 2,
	SERVICE_SOURCE_RANGES_DENY = 1 << 3,
	SERVICE_DSR = 1 << 4,	   /* remote backends answer clients outside by themselves */
	SERVICE_DELEGATE = 1 << 5, /* a local backend gets the packet as it came */
};

enum service_algorithm {
	SERVICE_RANDOM = 0,
	SERVICE_MAGLEV = 1,
};

/* Whether @kind is one of @kinds, bits by their number: one branch, whatever the kinds. */
static __always_inline bool service_is_one_of(__u8 kind, __u32 kinds)
{
	return kinds >> (kind & 31) & 1;
}

/* Slots [first, first + count) of the service's backend list. */
struct slot_range {
	__u16 first;
	__u16 count;
};

struct service {
	__u32 id;		   /* stable across agent restarts */
	__u32 generation;	   /* of the backend slots */
	struct slot_range outside; /* clients outside the cluster (externalTrafficPolicy) */
	struct slot_range inside;  /* pods and nodes (internalTrafficPolicy, or Cluster) */
	__u16 flags;
	__u8 kind;
	__u8 algorithm;
	__u32 affinity_timeout; /* ticks (clock.h) */
	__u32 maglev_offset;
	__u32 maglev_size;
};
_Static_assert(sizeof(struct service) == 32, "service is map ABI");

struct backend_key {
	__u32 service;
	__u32 generation;
	__u32 slot;
};
_Static_assert(sizeof(struct backend_key) == 12, "backend_key is map ABI");

enum backend_flag {
	BACKEND_LOCAL = 1 << 0,	      /* runs on this node */
	BACKEND_TERMINATING = 1 << 1, /* listed, and used only while no ready one is left */
	BACKEND_NOT_READY = 1 << 2,   /* in no range: its connections go on, it gets no new ones */
};

struct backend {
	struct addr addr;
	__be16 port;
	__u16 flags;
	__u32 target; /* index into target_state */
	__u16 target_epoch;
	__u16 weight;
	__u32 pad;
};
_Static_assert(sizeof(struct backend) == 32, "backend is map ABI");

enum target_status {
	TARGET_FREE = 0,
	TARGET_ACTIVE = 1,
	TARGET_TERMINATING = 2,
	TARGET_GONE = 3,
};

/* Lets a flow or a socket notice with one cheap read that what it was sent to has left. */
struct target_state {
	__u16 epoch; /* moves when the index is given to something else */
	__u8 status;
	__u8 pad;
	__u16 slot; /* in its list's newest generation; not for targets without a list */
	__u16 pad2;
};
_Static_assert(sizeof(struct target_state) == 8, "target_state is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct service_key);
	__type(value, struct service);
	__uint(max_entries, SERVICES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct backend_key);
	__type(value, struct backend);
	__uint(max_entries, BACKENDS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct target_state);
	__uint(max_entries, TARGETS_MAX);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} target_state SEC(".maps");

/* The frontend @vip:@port, or NULL. For a wildcard pass the family's unspecified address. */
static __always_inline const struct service *service_lookup(const struct addr *vip, __be16 port,
							    __u8 proto)
{
	const struct service_key key = {
		.vip = *vip,
		.port = port,
		.proto = proto,
	};

	return bpf_map_lookup_elem(&services, &key);
}

/* The wildcard frontend (NodePort, hostPort) of the family of @like. */
static __always_inline const struct service *service_lookup_wildcard(const struct addr *like,
								     __be16 port, __u8 proto)
{
	struct addr vip = {};

	if (addr_is_v4(like))
		addr_set_v4(&vip, 0);
	return service_lookup(&vip, port, proto);
}

static __always_inline const struct backend *backend_lookup(const struct service *service,
							    __u32 slot)
{
	const struct backend_key key = {
		.service = service->id,
		.generation = service->generation,
		.slot = slot,
	};

	return bpf_map_lookup_elem(&backends, &key);
}

/* Whether @state still is what had @epoch, and takes part; terminating counts as alive. */
static __always_inline bool target_is(const struct target_state *state, __u16 epoch)
{
	return state->epoch == epoch &&
	       (state->status == TARGET_ACTIVE || state->status == TARGET_TERMINATING);
}

/* Whether what @target pointed to at @epoch still takes part. */
static __always_inline bool target_alive(__u32 target, __u16 epoch)
{
	const struct target_state *state = bpf_map_lookup_elem(&target_state, &target);

	return state && target_is(state, epoch);
}
