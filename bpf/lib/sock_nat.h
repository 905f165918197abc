/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a socket was translated to, kept in the socket itself: freed with it, never evicted.
 *
 * An unconnected UDP socket may talk to several services, so the last SOCK_NAT_SLOTS are kept.
 */
#pragma once

#include "addr.h"

#define SOCK_NAT_SLOTS 8

struct sock_nat_entry {
	struct addr backend;
	struct addr frontend;
	__be16 backend_port;
	__be16 frontend_port;
	__u32 service;
	__u32 target;
	__u16 target_epoch;
	__u8 proto;
	__u8 used;
};
_Static_assert(sizeof(struct sock_nat_entry) == 48, "sock_nat_entry is map ABI");

struct sock_nat {
	struct bpf_spin_lock lock;
	__u32 next; /* slot that the next new entry replaces */
	struct sock_nat_entry entries[SOCK_NAT_SLOTS];
};
_Static_assert(sizeof(struct sock_nat) == 392, "sock_nat is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, __u32);
	__type(value, struct sock_nat);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} sock_nat SEC(".maps");
