/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table: one entry holds everything that is done to a translated packet in one direction.
 *
 * Untranslated traffic has no entry. A connection has two, one a direction, each under the tuple
 * that its packets carry where they are met. This header owns the layout; flow_*.h act on it.
 */
#pragma once

#include "addr.h"

#define FLOWS_MAX 524288
#define FLOWS_NEW_MAX 65536

/* Where a packet is met. A wire packet must never hit an entry made for a pod's packets. */
enum flow_zone {
	ZONE_POD = 1,	  /* leaves a pod: from_container */
	ZONE_WIRE = 2,	  /* arrives on a device: from_netdev, xdp_entry */
	ZONE_OVERLAY = 3, /* arrives decapsulated: from_overlay */
	ZONE_HOST = 4,	  /* leaves the host's stack: to_netdev, to_container */
};

struct flow_key {
	struct addr saddr;
	struct addr daddr;
	__be16 sport; /* ICMP echo: the identifier, in both */
	__be16 dport;
	__u8 proto;
	__u8 zone; /* enum flow_zone */
	__u16 pad;
};
_Static_assert(sizeof(struct flow_key) == 40, "flow_key is map ABI");

/* How the packet leaves after its rewrite. */
enum flow_kind {
	FLOW_STACK =
		1, /* up the host's stack (a backend in the host's own network, legacy routing) */
	FLOW_LOCAL = 2,	 /* into the pod behind `ifindex` */
	FLOW_L2 = 3,	 /* out of `ifindex`, to the next hop's dmac */
	FLOW_TUNNEL = 4, /* through the tunnel device `ifindex`, to the node that `nodes` says */
};

enum flow_flag {
	FLOW_REPLY = 1 << 0,	  /* the direction from the server back to the client */
	FLOW_HAIRPIN = 1 << 1,	  /* a pod that talks to itself through its service */
	FLOW_XDP = 1 << 2,	  /* the driver hook may finish it */
	FLOW_OPTION = 1 << 3,	  /* FLOW_DSR: its next packet carries the DSR option */
	FLOW_ADDR_ONLY = 1 << 4,  /* ports stay as they are (SCTP) */
	FLOW_NEW = 1 << 5,	  /* lives in flows_new until the handshake is done */
	FLOW_NO_MAC = 1 << 6,	  /* l2 is unresolved: the kernel's neighbour code sends it */
	FLOW_OWN_SOURCE = 1 << 7, /* its source becomes the node's */
	FLOW_TO_STACK = 1 << 8,	  /* for a proxy of the host's, wherever the destination lies */
	FLOW_DSR = 1 << 9,	  /* LB node: answers do not come back this way */
	FLOW_DSR_END = 1 << 10,	  /* backend's node: the request came translated, the answer is
				     translated here */
	FLOW_DSR_ALIAS = 1 << 11, /* backend's node: a connection's request under the port that its
				     LB node has changed to since */
	FLOW_UNPROVEN = 1 << 12,  /* FLOW_DSR: confirmed, and nothing was sent in a later tick */
};

/* What one side has sent so far; the lifetime follows from both sides' bits. */
enum flow_tcp {
	FLOW_TCP_SYN = 1 << 0,
	FLOW_TCP_ACK = 1 << 1, /* anything that is not a SYN */
	FLOW_TCP_FIN = 1 << 2,
	FLOW_TCP_RST = 1 << 3,
};

struct flow {
	/* What the packet carries afterwards. */
	struct addr saddr;
	struct addr daddr;
	__be16 sport;
	__be16 dport;

	__u32 ifindex;
	struct {
		__u8 dmac[ETH_ALEN];
		__u8 smac[ETH_ALEN];
	} l2;
	__u32 route_epoch; /* of settings when the route was looked up */

	__u32 service;	    /* owner, for counters and explanations */
	__u32 target;	    /* index into target_state; FLOW_DSR_ALIAS: flow_connection() of what
			       it leads to */
	__u16 target_epoch; /* that of target_state when the target was chosen */
	__u8 kind;	    /* enum flow_kind */
	__u8 partner_zone;  /* the other direction's key is this one's rewrite, reversed, in that
			       zone */
	__u16 flags;	    /* enum flow_flag */
	__u8 tcp_own;	    /* enum flow_tcp, sent in this direction */
	__u8 tcp_peer;	    /* enum flow_tcp, sent in the other */

	/* One's-complement differences of the rewrite, ready for the checksum helpers. */
	__u32 addr_diff;
	__u32 port_diff;

	__u32 in_ifindex; /* ZONE_POD: the only device this may come from; 0 elsewhere */
	__u32 last_seen;  /* ticks (clock.h) */
	__u32 created;
	__u8 replied; /* UDP: the other side has answered */
	__u8 told;    /* FLOW_DSR: the backend's node has been sent the option */
	__u16 mtu;    /* of the output device, 0: not checked */
};
_Static_assert(sizeof(struct flow) == 96, "flow is map ABI");

/* Confirmed flows. Never evicted: the agent ages them in batches. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, FLOWS_MAX);
} flows SEC(".maps");

/* Half-open flows. A flood turns over only this map. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, FLOWS_NEW_MAX);
} flows_new SEC(".maps");
