/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the slow path works on, per CPU.
 *
 * The steps for a connection's first packet are functions the verifier checks once, by themselves.
 * Before 5.12 such a function takes the context and numbers only, and the stack is 512 bytes, so
 * everything else lies here. Programs that use it run with softirqs off: nobody comes in between.
 */
#pragma once

#include "packet.h"

/* What has been decided about a new connection. */
struct flow_plan {
	struct addr saddr; /* what the packet shall carry */
	struct addr daddr;
	__be16 dport;
	__u8 reverse_zone;   /* where its answers will be met */
	__u8 own_address;    /* saddr is the node's, not the client's */
	__u32 reverse_input; /* ZONE_POD: the device answers come from */
	__u32 service;
	__u32 target;
	__u16 target_epoch;
	__u16 flags;	 /* enum flow_flag */
	__u8 other_port; /* not the client's own, even where that is free */
	__u8 pad[3];
};

/* What a DSR option says. */
struct dsr_mark {
	struct addr vip;
	__be16 port;
	__be16 client_port;
	__u32 pad;
};

/* A port of the client's that packets from another one are led to, on the backend's node. */
struct dsr_lead {
	__be16 port;   /* 0: there is none */
	__u16 flags;   /* enum flow_flag, of the connection there */
	__u8 original; /* what the client sent is led; else what the LB node made of it */
	__u8 must;     /* without it the packet cannot go on */
	__u8 pad[2];
};

/* Where an ICMP error's quote has what. */
struct icmp_quote {
	__u32 ports;  /* bytes from its start */
	__u32 option; /* bytes of the DSR option, 0: none */
};

struct scratch {
	struct packet packet;
	struct flow_plan plan;
	struct flow forward;
	struct flow reverse;
	struct flow_key reverse_key;
	struct flow_key sent; /* of a packet that an LB node has translated */
	struct dsr_mark mark;
	struct dsr_lead lead;
	struct icmp_quote quote;
	struct bpf_sock_tuple tuple;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct scratch);
	__uint(max_entries, 1);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch_get(void)
{
	const __u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/* Hands @packet to a slow step. */
static __always_inline bool scratch_put(const struct packet *packet)
{
	struct scratch *scratch = scratch_get();

	if (!scratch)
		return false;
	scratch->packet = *packet;
	return true;
}

/* Whose packet a slow step has read, and for which service, for the report. */
static __always_inline void scratch_tell(struct packet *packet)
{
	const struct scratch *scratch = scratch_get();

	if (!scratch)
		return;
	packet->key = scratch->packet.key;
	packet->service = scratch->packet.service;
}

/* Whose service a slow step found @packet to be, for the report. */
static __always_inline __u32 scratch_service(void)
{
	struct scratch *scratch = scratch_get();

	return scratch ? scratch->packet.service : 0;
}
