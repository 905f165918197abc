/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a socket was translated to, kept in the socket itself: freed with it, never evicted.
 *
 * An unconnected UDP socket may talk to several services, so the last SOCK_NAT_SLOTS are kept.
 * Forward a frontend has at most one entry. Backward several frontends may share a backend, and the
 * one that the socket used last is shown as the source of its datagrams.
 *
 * No lock: the kernel holds the socket's own lock around connect, sendmsg, recvmsg and getpeername
 * programs (lock_sock), and sock_release runs when nobody else can call. Only the iterators may
 * read at the same time, on kernels where they take no lock. To them an entry that is being written
 * has no flags, and is none; the socket is then on its way to another backend.
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
	__u32 next; /* slot that the next new entry replaces */
	__u32 pad;
	struct sock_nat_entry entries[SOCK_NAT_SLOTS];
};
_Static_assert(sizeof(struct sock_nat) == 392, "sock_nat is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, __u32);
	__type(value, struct sock_nat);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} sock_nat SEC(".maps");

/* The part of struct sock that is asked for. */
struct sock___storage {
	void *sk_bpf_storage;
} __attribute__((preserve_access_index));

extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym __weak;

/*
 * Whether the socket has storage of anybody's, told without a call: most have none. May be true
 * when it has not.
 */
static __always_inline bool sock_has_storage(struct bpf_sock_addr *ctx)
{
	const struct sock___storage *sk;

	/* The function came with 6.2; this is of 6.6, the first long-term kernel that has it. */
	if (!bpf_core_enum_value_exists(enum bpf_attach_type, BPF_TCX_INGRESS))
		return true;
	sk = bpf_rdonly_cast(ctx->sk, bpf_core_type_id_kernel(struct sock));
	return sk->sk_bpf_storage;
}

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

/* What the socket was last given for frontend @addr:@port, or NULL. */
static __always_inline struct sock_nat_entry *sock_nat_find(struct sock_nat *nat,
							    const struct addr *addr, __be16 port)
{
	int i;

	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (sock_nat_has_frontend(&nat->entries[i], addr, port))
			return &nat->entries[i];
	}
	return NULL;
}

/* In this order with the rest of the entry: see the top. */
static __always_inline void sock_nat_set_flags(struct sock_nat_entry *entry, __u8 flags)
{
	barrier();
	*(volatile __u8 *)&entry->flags = flags;
	barrier();
}

/* No frontend stands for backend @addr:@port any more. */
static __always_inline void sock_nat_unshow(struct sock_nat *nat, const struct addr *addr,
					    __be16 port)
{
	int i;

	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (sock_nat_shows(&nat->entries[i], addr, port))
			nat->entries[i].flags = SOCK_NAT_USED;
	}
}

/* Replaces backend @addr:@port by the frontend that the socket reached it through. */
static __always_inline bool sock_nat_reverse(const struct sock_nat *nat, struct addr *addr,
					     __be16 *port)
{
	int i;

	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (!sock_nat_shows(&nat->entries[i], addr, *port))
			continue;
		*addr = nat->entries[i].frontend;
		*port = nat->entries[i].frontend_port;
		return true;
	}
	return false;
}

/* Shows @entry instead of any other that shares its backend. */
static __always_inline void sock_nat_show(struct sock_nat *nat, struct sock_nat_entry *entry)
{
	sock_nat_unshow(nat, &entry->backend, entry->backend_port);
	entry->flags = SOCK_NAT_USED | SOCK_NAT_SHOWN;
}

/*
 * The entry to fill for frontend @addr:@port, its own or else the oldest, without flags. No other
 * frontend stands for @backend:@backend_port from here on.
 */
static __always_inline struct sock_nat_entry *sock_nat_take(struct sock_nat *nat,
							    const struct addr *addr, __be16 port,
							    const struct addr *backend,
							    __be16 backend_port)
{
	struct sock_nat_entry *entry = NULL;
	int i;

	for (i = 0; i < SOCK_NAT_SLOTS && !sock_nat_end(&nat->entries[i]); i++) {
		if (sock_nat_has_frontend(&nat->entries[i], addr, port))
			entry = &nat->entries[i];
		else if (sock_nat_shows(&nat->entries[i], backend, backend_port))
			nat->entries[i].flags = SOCK_NAT_USED;
	}
	if (!entry)
		entry = &nat->entries[nat->next++ % SOCK_NAT_SLOTS];
	sock_nat_set_flags(entry, 0);
	return entry;
}

static __always_inline void sock_nat_clear(struct sock_nat *nat)
{
	int i;

	for (i = 0; i < SOCK_NAT_SLOTS; i++)
		nat->entries[i].flags = 0;
}
