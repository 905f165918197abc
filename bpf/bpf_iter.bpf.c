// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf_iter: finds the connected UDP sockets whose backend is gone, and destroys them.
 *
 * `find_stale` walks every socket that was ever translated, in all network namespaces at once.
 * `destroy_stale` walks the UDP sockets of one namespace, that of the thread which reads it; before
 * 6.5 there is no bpf_sock_destroy, and the agent uses SOCK_DESTROY instead.
 */
#include "lib/common.h"
#include "lib/sock_iter.h"

extern int bpf_sock_destroy(struct sock_common *sk) __ksym __weak;

SEC("iter/bpf_sk_storage_map")
int find_stale(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct sock_nat *nat = ctx->value;
	const struct sock *sk = ctx->sk;
	struct stale_sock stale = {};

	if (!sk || !nat || sk->sk_protocol != IPPROTO_UDP || !sock_stale(&sk->__sk_common, nat))
		return 0;

	stale.cookie = sk->__sk_common.skc_cookie.counter;
	sock_local(&sk->__sk_common, &stale.local);
	sock_peer(&sk->__sk_common, &stale.peer);
	stale.netns = sk->__sk_common.skc_net.net->ns.inum;
	stale.ifindex = sk->__sk_common.skc_bound_dev_if;
	stale.local_port = bpf_htons(sk->__sk_common.skc_num);
	stale.peer_port = sk->__sk_common.skc_dport;
	stale.family = sk->__sk_common.skc_family;
	bpf_seq_write(ctx->meta->seq, &stale, sizeof(stale));
	return 0;
}

SEC("iter/udp")
int destroy_stale(struct bpf_iter__udp *ctx)
{
	struct udp_sock *udp = ctx->udp_sk;
	struct sock_nat *nat;
	__u64 cookie;

	if (!udp)
		return 0;
	nat = bpf_sk_storage_get(&sock_nat, &udp->inet.sk, NULL, 0);
	if (!nat || !sock_stale(&udp->inet.sk.__sk_common, nat))
		return 0;

	/* What does not fit into this read's buffer comes again with the next. */
	cookie = udp->inet.sk.__sk_common.skc_cookie.counter;
	if (bpf_seq_write(ctx->meta->seq, &cookie, sizeof(cookie)) == 0)
		bpf_sock_destroy((struct sock_common *)udp);
	return 0;
}

/* Types that no map mentions are exported through a reference. */
const struct stale_sock *unused_stale_sock __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
