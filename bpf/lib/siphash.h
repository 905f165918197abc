/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012), a keyed hash for short messages whose output nobody
 * can guess without the key.
 */
#pragma once

#include "common.h"

struct siphash {
	__u64 v[4];
};

static __always_inline __u64 siphash_rotate(__u64 word, const int by)
{
	return word << by | word >> (64 - by);
}

static __always_inline void siphash_round(struct siphash *state)
{
	__u64 *v = state->v;

	v[0] += v[1];
	v[1] = siphash_rotate(v[1], 13) ^ v[0];
	v[0] = siphash_rotate(v[0], 32);
	v[2] += v[3];
	v[3] = siphash_rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = siphash_rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = siphash_rotate(v[1], 17) ^ v[2];
	v[2] = siphash_rotate(v[2], 32);
}

static __always_inline void siphash_start(struct siphash *state, __u64 k0, __u64 k1)
{
	state->v[0] = k0 ^ 0x736f6d6570736575;
	state->v[1] = k1 ^ 0x646f72616e646f6d;
	state->v[2] = k0 ^ 0x6c7967656e657261;
	state->v[3] = k1 ^ 0x7465646279746573;
}

/* Eight bytes of the message, in the order they have in memory. */
static __always_inline void siphash_add(struct siphash *state, __u64 word)
{
	state->v[3] ^= word;
	siphash_round(state);
	siphash_round(state);
	state->v[0] ^= word;
}

/* @rest: the last bytes, fewer than eight; @length: of the whole message. */
static __always_inline __u64 siphash_finish(struct siphash *state, __u64 rest, __u8 length)
{
	siphash_add(state, rest | (__u64)length << 56);
	state->v[2] ^= 0xff;
	siphash_round(state);
	siphash_round(state);
	siphash_round(state);
	siphash_round(state);
	return state->v[0] ^ state->v[1] ^ state->v[2] ^ state->v[3];
}
