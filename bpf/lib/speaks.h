/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a socket at one of its ends speaks under a new flow's tuple already.
 *
 * A connection straight to a pod has no flow. One through a service from the same client port to
 * the same pod would take its answers: the socket alone tells that it is there.
 */
#pragma once

#include "endpoint.h"
#include "scratch.h"

/* Whose sockets speaks_already() asks. */
#define SPEAKS_HOST 0 /* those of the host, which the answer would come to */
#define SPEAKS_POD 1  /* the backend's, or the client's where that is the pod */

/*
 * Fills scratch->tuple with that of a packet with scratch->reverse_key, or of its answer, where the
 * other end is asked. Returns its length.
 */
static __always_inline __u32 speaks_tuple(struct scratch *scratch, bool answer)
{
	const struct flow_key *key = &scratch->reverse_key;
	const struct addr *saddr = answer ? &key->daddr : &key->saddr;
	const struct addr *daddr = answer ? &key->saddr : &key->daddr;
	const __be16 sport = answer ? key->dport : key->sport;
	const __be16 dport = answer ? key->sport : key->dport;
	struct bpf_sock_tuple *tuple = &scratch->tuple;

	if (addr_is_v4(saddr)) {
		tuple->ipv4.saddr = saddr->w[3];
		tuple->ipv4.daddr = daddr->w[3];
		tuple->ipv4.sport = sport;
		tuple->ipv4.dport = dport;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, saddr, sizeof(tuple->ipv6.saddr));
	__builtin_memcpy(tuple->ipv6.daddr, daddr, sizeof(tuple->ipv6.daddr));
	tuple->ipv6.sport = sport;
	tuple->ipv6.dport = dport;
	return sizeof(tuple->ipv6);
}

/*
 * Whether a socket has the tuple of scratch->reverse_key already. Of a pod's, or of a backend's in
 * the host, only those count that a TCP connection which scratch->packet opens would meet: a socket
 * that gives way to a SYN does not (RFC 9293 section 3.6.1), and one for datagrams says nothing of
 * whom it talks to.
 */
__noinline int speaks_already(CTX *ctx, __u32 whose)
{
	struct scratch *scratch = scratch_get();
	const struct endpoint *endpoint;
	const struct flow_key *reverse;
	__u64 netns = BPF_F_CURRENT_NETNS;
	struct bpf_sock *sk;
	bool answer = false;
	__u32 state, len;

	if (!scratch)
		return false;
	reverse = &scratch->reverse_key;
	if (whose == SPEAKS_POD) {
		answer = reverse->zone != ZONE_WIRE;
		if (reverse->proto != IPPROTO_TCP || !packet_opens(&scratch->packet))
			return false;
		if (!answer && scratch->packet.key.zone != ZONE_POD)
			return false;
		if (reverse->zone != ZONE_HOST) {
			endpoint = endpoint_lookup(answer ? &reverse->saddr : &reverse->daddr);
			if (!endpoint || !endpoint->netns_number)
				return false;
			netns = endpoint->netns_number - 1;
		}
	}

	len = speaks_tuple(scratch, answer);
	if (reverse->proto == IPPROTO_UDP) {
		sk = bpf_sk_lookup_udp(ctx, &scratch->tuple, len, netns, 0);
		if (sk)
			bpf_sk_release(sk);
		return !!sk;
	}
	if (reverse->proto != IPPROTO_TCP)
		return false;
	sk = bpf_skc_lookup_tcp(ctx, &scratch->tuple, len, netns, 0);
	if (!sk)
		return false;
	state = sk->state;
	bpf_sk_release(sk);
	return whose == SPEAKS_HOST ||
	       (state != BPF_TCP_LISTEN && state != BPF_TCP_TIME_WAIT && state != BPF_TCP_CLOSE);
}
