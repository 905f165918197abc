/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * While an agent brings maps of another layout, old programs go on to store flows where new ones do
 * not look, until the agent has carried them over. Who met such a packet without knowing of its
 * flow would have the host answer it with a RST, or send it on untranslated: the connection would
 * be lost. Dropped, it comes again.
 *
 * Both maps stay what they are in all versions: they are how two versions talk to each other.
 */
#pragma once

#include "flow.h"
#include "packet.h"

/* Connections that open in the few milliseconds that a handover takes. What finds no place is
 * carried over all the same. */
#define HANDOVER_KEYS_MAX 65536

/* Until which tick (clock.h) one is going on; 0: none is. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} handover SEC(".maps");

/* What has been stored meanwhile, and whether as the direction of the answers. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, __u32);
	__uint(max_entries, HANDOVER_KEYS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} handover_keys SEC(".maps");

static __always_inline bool handover_goes_on(__u32 now)
{
	const __u32 zero = 0;
	const __u32 *until = bpf_map_lookup_elem(&handover, &zero);

	return until && *until && (__s32)(*until - now) > 0;
}

/*
 * Whether the flow of @packet, which has none here, is still to come. A packet that may open one
 * need not wait: it gets what the first one got.
 */
static __always_inline bool handover_withholds(const struct packet *packet, __u32 now)
{
	const __u32 *reply;

	if (!handover_goes_on(now))
		return false;
	reply = bpf_map_lookup_elem(&handover_keys, &packet->key);
	return reply && (*reply || !packet_opens(packet));
}
