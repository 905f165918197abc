/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which sockets still talk to a target that is gone.
 *
 * Only a socket that a service sent there counts. One that named the pod's address itself, one that
 * chooses anew with every datagram, and one of another service's are none of our business.
 */
#pragma once

#include "sock_nat.h"

#define GONE_TARGETS_MAX 4096

#define SOCK_CONNECTED 1 /* TCP_ESTABLISHED, which a connected UDP socket has as well */

struct gone_target {
	__u32 target;
	__u16 epoch;
	__u16 pad;
};
_Static_assert(sizeof(struct gone_target) == 8, "gone_target is map ABI");

/* What the run is about, written by the agent before it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct gone_target);
	__type(value, __u8);
	__uint(max_entries, GONE_TARGETS_MAX);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} gone_targets SEC(".maps");

/* One socket to destroy, as the agent reads it. Everything that SOCK_DESTROY wants to know. */
struct stale_sock {
	__u64 cookie;
	struct addr local;
	struct addr peer;
	__u32 netns; /* inode number of its network namespace */
	__u32 ifindex;
	__be16 local_port;
	__be16 peer_port;
	__u16 family;
	__u16 pad;
};
_Static_assert(sizeof(struct stale_sock) == 56, "stale_sock is ABI with the agent");

static __always_inline void sock_peer(const struct sock_common *sk, struct addr *addr)
{
	if (sk->skc_family == AF_INET6)
		addr_set_v6(addr, sk->skc_v6_daddr.in6_u.u6_addr32);
	else
		addr_set_v4(addr, sk->skc_daddr);
}

static __always_inline void sock_local(const struct sock_common *sk, struct addr *addr)
{
	if (sk->skc_family == AF_INET6)
		addr_set_v6(addr, sk->skc_v6_rcv_saddr.in6_u.u6_addr32);
	else
		addr_set_v4(addr, sk->skc_rcv_saddr);
}

/*
 * Whether @sk is connected, through a service, to a target in `gone_targets`. @nat may be
 * written meanwhile (sock_nat.h): then the socket is on its way to another backend.
 */
static __always_inline bool sock_stale(const struct sock_common *sk, const struct sock_nat *nat)
{
	struct gone_target gone = {};
	struct addr peer;
	int i;

	if (sk->skc_state != SOCK_CONNECTED)
		return false;

	sock_peer(sk, &peer);
	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (!sock_nat_shows(&nat->entries[i], &peer, sk->skc_dport))
			continue;
		gone.target = nat->entries[i].target;
		gone.epoch = nat->entries[i].target_epoch;
		return bpf_map_lookup_elem(&gone_targets, &gone);
	}
	return false;
}
