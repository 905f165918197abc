/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments that came before their first are kept, and come in again behind it.
 *
 * A program cannot keep a packet, but its bytes: they are copied here. When the first fragment
 * arrives, it plays each of them in turn, sends a clone to the device it came from as if it had
 * just arrived there, and becomes itself again.
 */
#pragma once

#include "endpoint.h"
#include "fragment.h"
#include "owned.h"
#include "vip.h"

/* A frame of the usual MTU; larger ones are not held. */
#define FRAGMENT_BYTES 1600

#define FRAGMENT_SLOTS 256

/* Of one datagram. */
#define FRAGMENTS_HELD 8

struct fragment_held {
	struct fragment_key key;
	__u32 since; /* ticks (clock.h) */
	__u32 length;
	__u8 bytes[FRAGMENT_BYTES];
};

/* A key is a number below FRAGMENT_SLOTS: who is too many leaves before the map is full. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct fragment_held);
	__uint(max_entries, FRAGMENT_SLOTS);
} fragments_held SEC(".maps");

/* A CPU's own, to copy through: it is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct fragment_held);
	__uint(max_entries, 1);
} fragment_buffers SEC(".maps");

static __always_inline struct fragment_held *fragment_buffer(void)
{
	const __u32 zero = 0;

	return bpf_map_lookup_elem(&fragment_buffers, &zero);
}

static __always_inline bool fragment_same(const struct fragment_key *a,
					  const struct fragment_key *b)
{
	return addr_equal(&a->saddr, &b->saddr) && addr_equal(&a->daddr, &b->daddr) &&
	       a->id == b->id && a->proto == b->proto && a->zone == b->zone;
}

/* The first of the FRAGMENTS_HELD slots that @key's datagram may use. */
static __always_inline __u32 fragment_slot(const struct fragment_key *key)
{
	__u32 hash = key->id ^ key->saddr.w[3] ^ key->saddr.w[0];

	hash ^= (key->daddr.w[3] ^ key->proto) * 0x9e3779b1;
	return (hash * 0x9e3779b1) >> 24;
}

/* Whether what goes to this address might be translated. Pods send their fragments in order. */
static __always_inline bool fragment_worth(const struct fragment_key *key)
{
	if (key->zone == ZONE_POD)
		return vip_lookup(&key->daddr);
	if (key->zone != ZONE_WIRE)
		return false;
	return owned_lookup(&key->daddr) || vip_lookup(&key->daddr) || endpoint_lookup(&key->daddr);
}

/* Copies the whole of @skb into @held. */
static __always_inline bool fragment_copy(struct __sk_buff *skb, struct fragment_held *held)
{
	__u32 length = skb->len;

	/* Read once: the verifier bounds what is in a register. */
	barrier_var(length);
	if (length < ETH_HLEN || length > FRAGMENT_BYTES)
		return false;
	held->length = length;
	return bpf_skb_load_bytes(skb, 0, held->bytes, length) == 0;
}

/* Makes @skb the frame in @held. */
static __always_inline bool fragment_become(struct __sk_buff *skb, const struct fragment_held *held)
{
	__u32 length = held->length;

	barrier_var(length);
	if (length < ETH_HLEN || length > FRAGMENT_BYTES)
		return false;
	/*
	 * A complete skb->csum begins behind the Ethernet header: when the whole is stored, that is
	 * there already and changes nothing.
	 */
	return !bpf_skb_change_tail(skb, length, 0) &&
	       !bpf_skb_store_bytes(skb, 0, held->bytes, ETH_HLEN, 0) &&
	       !bpf_skb_store_bytes(skb, 0, held->bytes, length, BPF_F_RECOMPUTE_CSUM);
}

/*
 * Keeps the later fragment @skb, whose key is in @buffer, until its first comes. False when it must
 * go on as it is: nobody would translate it, there is no room, or its first has come meanwhile.
 */
static __always_inline bool fragment_hold(struct __sk_buff *skb, struct fragment_held *buffer)
{
	const struct fragment_key *key = &buffer->key;
	const __u32 first = fragment_slot(key);
	struct fragment_held *other;
	const __u32 now = clock_ticks();

	if (!fragment_worth(key) || !fragment_copy(skb, buffer))
		return false;
	buffer->since = now;

	for (__u32 i = 0; i < FRAGMENTS_HELD; i++) {
		const __u32 slot = (first + i) % FRAGMENT_SLOTS;

		other = bpf_map_lookup_elem(&fragments_held, &slot);
		if (other && (__s32)(now - other->since) > FRAGMENT_LIFE)
			bpf_map_delete_elem(&fragments_held, &slot);
		if (bpf_map_update_elem(&fragments_held, &slot, buffer, BPF_NOEXIST))
			continue;
		/* The first looks for us after it has left its ports: one of the two sees both. */
		if (!bpf_map_lookup_elem(&fragments, key))
			return true;
		bpf_map_delete_elem(&fragments_held, &slot);
		return false;
	}
	return false;
}

/*
 * Lets in again what was kept of the datagram whose first @skb is. Returns 0, or -1: @skb is lost.
 */
static __always_inline int fragment_release(struct __sk_buff *skb, struct fragment_held *buffer)
{
	const __u32 first = fragment_slot(&buffer->key);
	struct fragment_held *held;
	bool changed = false;

	for (__u32 i = 0; i < FRAGMENTS_HELD; i++) {
		const __u32 slot = (first + i) % FRAGMENT_SLOTS;

		held = bpf_map_lookup_elem(&fragments_held, &slot);
		if (!held || !fragment_same(&held->key, &buffer->key))
			continue;
		if (!changed && !fragment_copy(skb, buffer))
			return 0;
		changed = true;
		if (!fragment_become(skb, held))
			return -1;
		bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
		bpf_map_delete_elem(&fragments_held, &slot);
	}
	return changed && !fragment_become(skb, buffer) ? -1 : 0;
}
