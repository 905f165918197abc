/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What became of each packet: one counter an outcome and hook, per CPU. */
#pragma once

#include "common.h"

enum hook {
	HOOK_FROM_CONTAINER = 0,
	HOOK_TO_CONTAINER = 1,
	HOOK_FROM_NETDEV = 2,
	HOOK_TO_NETDEV = 3,
	HOOK_FROM_OVERLAY = 4,
	HOOK_TO_OVERLAY = 5,
	HOOK_XDP = 6,
	HOOK_SOCKET = 7,
	HOOK_MAX = 8,
};

/* Outcomes from DROP_FIRST on are drops, and so is OUTCOME_REJECTED. The numbers are ABI: append,
 * never reorder. */
enum outcome {
	OUTCOME_STACK = 0,	/* given to the host's stack untouched */
	OUTCOME_TRANSLATED = 1, /* rewritten, then given to the host's stack */
	OUTCOME_LOCAL = 2,	/* into a pod of this node */
	OUTCOME_FORWARDED = 3,	/* out of a device */
	OUTCOME_ANSWERED = 4,	/* by the program itself: ARP, neighbour advertisement */
	OUTCOME_REJECTED = 5,	/* service without endpoints: refused with an ICMP error */
	OUTCOME_HELD = 6,	/* a fragment that came before its first: it comes in again */
	OUTCOME_NO_ROOM = 7,	/* out of a device without the DSR option it should have had: the
				   header has no room for it */

	DROP_FIRST = 16,
	DROP_MALFORMED = 16, /* headers cut short or contradicting each other */
	DROP_SPOOFED = 17,   /* a source that its sender cannot have */
	DROP_NO_LOCAL = 18,  /* traffic policy Local, and no endpoint on this node */
	DROP_NO_BACKEND =
		19, /* the chosen slot was empty twice: the table changed under the packet */
	DROP_SNAT_EXHAUSTED = 20, /* no free source port towards this backend */
	DROP_SNAT_ADDRESS = 21,	  /* the egress device has no address of the packet's family */
	DROP_FLOWS_FULL = 22,	  /* the flow could not be stored */
	DROP_NO_ROUTE = 23,	  /* the routing table refuses the rewritten destination */
	DROP_REWRITE = 24,	  /* the packet could not be written to */
	DROP_PROTOCOL = 25,	  /* a fragment of SCTP, whose ports would have to change */
	DROP_FRAGMENT = 26,	  /* a later fragment whose first was never seen */
	DROP_UNKNOWN_PORT = 27,	  /* an address that is only a service's, on a port that is none */
	DROP_DENIED = 28,	  /* loadBalancerSourceRanges */
	DROP_CLUSTER_IP = 29,	  /* a ClusterIP, asked for from outside the cluster */
	DROP_TOO_BIG = 30,	  /* larger than the next link carries; the sender was told */
	DROP_TTL = 31,		  /* expired here; the sender was told */
	DROP_DSR_TAG = 32,	  /* dispatched by somebody who does not know the key */
	DROP_DSR_MALFORMED = 33,  /* a DSR option or encapsulation that contradicts itself */
	DROP_DSR_SERVICE = 34,	  /* encapsulated for a pod, but for no service of ours */
	DROP_DSR_CONFLICT = 35,	  /* the same tuple came through another service address */
	DROP_HANDOVER = 36, /* its flow is still in the maps that an upgrade replaces: it has to
			       come again */
	OUTCOME_MAX = 40,
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

/* Index: outcome * HOOK_MAX + hook. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(max_entries, OUTCOME_MAX *HOOK_MAX);
} counters SEC(".maps");

/* Whether the packet, or the call, ends here: that is always told. */
static __always_inline bool outcome_is_drop(enum outcome outcome)
{
	return outcome >= DROP_FIRST || outcome == OUTCOME_REJECTED;
}

static __always_inline void outcome_count(enum outcome outcome, enum hook hook, __u32 bytes)
{
	const __u32 index = outcome * HOOK_MAX + hook;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}
