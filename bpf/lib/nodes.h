/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which node an address belongs to: the nodes' own addresses, and the prefixes of their pods.
 *
 * Says where to tunnel to, and whether an encapsulated packet comes from one of us.
 */
#pragma once

#include "addr.h"

#define NODES_MAX 32768

/* Bits of node_key before the address. */
#define NODE_FIXED 32

enum node_flag {
	NODE_ADDRESS = 1 << 0, /* an address of the node itself, not one of its pods' */
};

struct node_key {
	__u32 prefixlen; /* NODE_FIXED and the bits of @addr; IPv4 counts from 96 */
	__u32 pad;
	struct addr addr;
};
_Static_assert(sizeof(struct node_key) == 24, "node_key is map ABI");

struct node {
	struct addr addr; /* where the node is reached, of either family */
	__u32 flags;	  /* enum node_flag */
	__u32 pad;
};
_Static_assert(sizeof(struct node) == 24, "node is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct node_key);
	__type(value, struct node);
	__uint(max_entries, NODES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
} nodes SEC(".maps");

static __always_inline const struct node *node_lookup(const struct addr *addr)
{
	const struct node_key key = {
		.prefixlen = NODE_FIXED + 8 * sizeof(*addr),
		.addr = *addr,
	};

	return bpf_map_lookup_elem(&nodes, &key);
}
