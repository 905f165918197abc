/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The pods of this node, by address. Written by the agent when the CNI plugin adds a pod. */
#pragma once

#include "addr.h"

#define ENDPOINTS_MAX 4096

struct endpoint {
	__u32 ifindex;		 /* host side of the veth pair */
	__u8 mac[ETH_ALEN];	 /* of the pod */
	__u8 host_mac[ETH_ALEN]; /* of the host side, the pod's gateway */
	__u64 netns_cookie;	 /* SO_NETNS_COOKIE of the pod, 0 when unknown */
	__u32 netns_number;	 /* of the pod's namespace in this one, plus 1; 0 when unknown */
	__u32 pad;
};
_Static_assert(sizeof(struct endpoint) == 32, "endpoint is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct addr);
	__type(value, struct endpoint);
	__uint(max_entries, ENDPOINTS_MAX);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} endpoints SEC(".maps");

static __always_inline const struct endpoint *endpoint_lookup(const struct addr *addr)
{
	return bpf_map_lookup_elem(&endpoints, addr);
}
