/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a socket was translated to, kept in the socket itself: freed with it, never evicted.
 *
 * An unconnected UDP socket may talk to several services, so the last SOCK_NAT_SLOTS are kept.
 * Forward a frontend has at most one entry. Backward several frontends may share a backend, and the
 * one that the socket used last is shown as the source of its datagrams.
 */
#pragma once

#include "addr.h"

#define SOCK_NAT_SLOTS 8

enum sock_nat_flag {
	SOCK_NAT_USED = 1 << 0,
	SOCK_NAT_SHOWN = 1 << 1, /* at most one entry a backend */
};

struct sock_nat_entry {
	struct addr backend;
	struct addr frontend;
	__be16 backend_port;
	__be16 frontend_port;
	__u32 service;
	__u32 target;
	__u16 target_epoch;
	__u8 proto;
	__u8 flags; /* enum sock_nat_flag */
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

/* The socket's translations, or NULL when it never had one. */
static __always_inline struct sock_nat *sock_nat_get(struct bpf_sock_addr *ctx)
{
	return bpf_sk_storage_get(&sock_nat, ctx->sk, NULL, 0);
}

/* As sock_nat_get(), made when missing. NULL when the socket's option memory is used up. */
static __always_inline struct sock_nat *sock_nat_get_or_create(struct bpf_sock_addr *ctx)
{
	struct sock_nat *nat = sock_nat_get(ctx);

	if (nat)
		return nat;
	/* Gives the socket its cookie, by which sockets.rs finds it: iterators before 5.12 cannot.
	 */
	bpf_get_socket_cookie(ctx);
	return bpf_sk_storage_get(&sock_nat, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}

/* Slots fill in order and are emptied all at once: behind an unused one there is nothing. */
static __always_inline bool sock_nat_end(const struct sock_nat_entry *entry)
{
	return !(entry->flags & SOCK_NAT_USED);
}

static __always_inline bool sock_nat_has_frontend(const struct sock_nat_entry *entry,
						  const struct addr *addr, __be16 port)
{
	return entry->frontend_port == port && addr_equal(&entry->frontend, addr);
}

static __always_inline bool sock_nat_shows(const struct sock_nat_entry *entry,
					   const struct addr *addr, __be16 port)
{
	return (entry->flags & SOCK_NAT_SHOWN) && entry->backend_port == port &&
	       addr_equal(&entry->backend, addr);
}

/* Copies the entry of frontend @addr:@port to @found. */
static __always_inline bool sock_nat_find(struct sock_nat *nat, const struct addr *addr,
					  __be16 port, struct sock_nat_entry *found)
{
	bool hit = false;
	int i;

	bpf_spin_lock(&nat->lock);
	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (!sock_nat_has_frontend(&nat->entries[i], addr, port))
			continue;
		*found = nat->entries[i];
		hit = true;
		break;
	}
	bpf_spin_unlock(&nat->lock);
	return hit;
}

/* Replaces backend @addr:@port by the frontend that the socket reached it through. */
static __always_inline bool sock_nat_reverse(struct sock_nat *nat, struct addr *addr, __be16 *port)
{
	struct addr frontend;
	__be16 frontend_port;
	bool hit = false;
	int i;

	bpf_spin_lock(&nat->lock);
	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (!sock_nat_shows(&nat->entries[i], addr, *port))
			continue;
		frontend = nat->entries[i].frontend;
		frontend_port = nat->entries[i].frontend_port;
		hit = true;
		break;
	}
	bpf_spin_unlock(&nat->lock);

	if (!hit)
		return false;
	*addr = frontend;
	*port = frontend_port;
	return true;
}

/* Stores @entry in its frontend's slot, else in the oldest one, and shows it. */
static __always_inline void sock_nat_store(struct sock_nat *nat, const struct sock_nat_entry *entry)
{
	__u32 slot = SOCK_NAT_SLOTS;
	int i;

	bpf_spin_lock(&nat->lock);
	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (sock_nat_has_frontend(&nat->entries[i], &entry->frontend, entry->frontend_port))
			slot = i;
		else if (sock_nat_shows(&nat->entries[i], &entry->backend, entry->backend_port))
			nat->entries[i].flags &= ~SOCK_NAT_SHOWN;
	}
	if (slot == SOCK_NAT_SLOTS)
		slot = nat->next++;
	slot %= SOCK_NAT_SLOTS;
	nat->entries[slot] = *entry;
	nat->entries[slot].flags = SOCK_NAT_USED | SOCK_NAT_SHOWN;
	bpf_spin_unlock(&nat->lock);
}

/* The socket now addresses @addr:@port itself: no frontend stands for it any more. */
static __always_inline void sock_nat_unshow(struct sock_nat *nat, const struct addr *addr,
					    __be16 port)
{
	int i;

	bpf_spin_lock(&nat->lock);
	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (sock_nat_shows(&nat->entries[i], addr, port))
			nat->entries[i].flags &= ~SOCK_NAT_SHOWN;
	}
	bpf_spin_unlock(&nat->lock);
}

static __always_inline void sock_nat_clear(struct sock_nat *nat)
{
	int i;

	bpf_spin_lock(&nat->lock);
	for (i = 0; i < SOCK_NAT_SLOTS; i++)
		nat->entries[i].flags = 0;
	bpf_spin_unlock(&nat->lock);
}
