/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Wins a client port for a new flow: the answer's key, inserted where nobody else has it, is the
 * reservation.
 *
 * Used with an address of the node's (SNAT to a remote backend) and with the client's own address
 * (two frontends that lead one client port to one backend).
 */
#pragma once

#include "flow_table.h"
#include "rewrite.h"
#include "speaks.h"

#define SNAT_TRIES 32

/* Whether @port may stand in for a client's. NodePorts are never given away. */
static __always_inline bool snat_port_allowed(__u16 port)
{
	if (port < CONFIG.snat_port_min || port > CONFIG.snat_port_max)
		return false;
	return port < CONFIG.nodeport_min || port > CONFIG.nodeport_max;
}

/*
 * Stores scratch->reverse under scratch->reverse_key if nobody has that. Returns 0, -EEXIST, or the
 * map's error. Verified once, not for each try.
 */
__noinline int snat_try(CTX *ctx)
{
	struct scratch *scratch = scratch_get();

	if (!scratch)
		return -ENOENT;
	if (speaks_already(ctx, scratch->plan.own_address ? SPEAKS_HOST : SPEAKS_POD))
		return -EEXIST;
	rewrite_prepare(&scratch->reverse_key, &scratch->reverse);
	return flow_claim(&scratch->reverse_key, &scratch->reverse, clock_ticks());
}

/*
 * Stores scratch->reverse under scratch->reverse_key with a client port that is free, the original
 * one first, and leaves that port in the key. Returns 0, -EEXIST when every try was taken, or the
 * map's error.
 */
__noinline int snat_claim(CTX *ctx)
{
	const __u32 span = (__u32)CONFIG.snat_port_max - CONFIG.snat_port_min + 1;
	struct scratch *scratch = scratch_get();
	struct flow_key *key;
	bool keep;

	if (!scratch)
		return -ENOENT;
	key = &scratch->reverse_key;
	keep = !scratch->plan.own_address || snat_port_allowed(bpf_ntohs(key->dport));
	if (scratch->plan.other_port)
		keep = false;

	for (int i = 0; i < SNAT_TRIES; i++) {
		__u32 random = bpf_get_prandom_u32();
		__u16 port = CONFIG.snat_port_min + (((__u64)random * span) >> 32);
		int err;

		if (!keep) {
			if (!snat_port_allowed(port))
				continue;
			key->dport = bpf_htons(port);
		}
		keep = false;
		err = snat_try(ctx);
		if (err != -EEXIST)
			return err;
	}
	return -EEXIST;
}
