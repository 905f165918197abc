// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf_sock: cgroup hooks that choose a backend when a socket is connected or sends.
 *
 * Forward hooks put the backend's address in the place of the service's, backward hooks undo it in
 * what the program is shown. Per packet nothing is left to do.
 */
#include "lib/common.h"
#include "lib/sock_bind.h"
#include "lib/sock_translate.h"

/* A program of these hooks refuses the call with 0. */
#define CALL_REFUSED 0
#define CALL_ALLOWED 1

static __always_inline bool proto_served(__u32 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

/* Half an address at a time (Linux 5.3), as it is compared and hashed afterwards. */
static __always_inline void read_v6(struct addr *addr, const struct bpf_sock_addr *ctx)
{
	addr->d[0] = *(const __u64 *)&ctx->user_ip6[0];
	addr->d[1] = *(const __u64 *)&ctx->user_ip6[2];
}

static __always_inline void write_v6(struct bpf_sock_addr *ctx, const struct addr *addr)
{
	*(__u64 *)&ctx->user_ip6[0] = addr->d[0];
	*(__u64 *)&ctx->user_ip6[2] = addr->d[1];
}

/*
 * An IPv6 socket connected to a mapped address sends each datagram through sendmsg4, with its peer
 * as if the program had named it. That peer is the backend already.
 */
static __always_inline bool is_peer_v4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk && sk->state == BPF_TCP_ESTABLISHED && sk->dst_ip4 == ctx->user_ip4 &&
	       sk->dst_port == (__be16)ctx->user_port;
}

static __always_inline int forward_v4(struct bpf_sock_addr *ctx, bool connecting)
{
	struct sock_dest dest = {
		.port = ctx->user_port,
		.proto = ctx->protocol,
		.connecting = connecting,
	};
	enum sock_verdict verdict;

	if (!proto_served(ctx->protocol) || sock_exempt(ctx))
		return CALL_ALLOWED;
	if (!connecting && is_peer_v4(ctx))
		return CALL_ALLOWED;

	addr_set_v4(&dest.addr, ctx->user_ip4);
	verdict = sock_translate(ctx, &dest);
	if (verdict == SOCK_REWRITE) {
		ctx->user_ip4 = dest.addr.w[3];
		ctx->user_port = dest.port;
	}
	return verdict == SOCK_REFUSED ? CALL_REFUSED : CALL_ALLOWED;
}

/* Also v4-mapped addresses, which maps hold for IPv4 anyway: they come back mapped. */
static __always_inline int forward_v6(struct bpf_sock_addr *ctx, bool connecting)
{
	struct sock_dest dest = {
		.port = ctx->user_port,
		.proto = ctx->protocol,
		.connecting = connecting,
	};
	enum sock_verdict verdict;

	if (!proto_served(ctx->protocol) || sock_exempt(ctx))
		return CALL_ALLOWED;

	read_v6(&dest.addr, ctx);
	verdict = sock_translate(ctx, &dest);
	if (verdict == SOCK_REWRITE) {
		write_v6(ctx, &dest.addr);
		ctx->user_port = dest.port;
	}
	return verdict == SOCK_REFUSED ? CALL_REFUSED : CALL_ALLOWED;
}

static __always_inline int backward_v4(struct bpf_sock_addr *ctx)
{
	struct sock_nat *nat = sock_nat_get(ctx);
	__be16 port = ctx->user_port;
	struct addr addr;

	addr_set_v4(&addr, ctx->user_ip4);
	if (nat && sock_nat_reverse(nat, &addr, &port)) {
		ctx->user_ip4 = addr.w[3];
		ctx->user_port = port;
	}
	return CALL_ALLOWED;
}

static __always_inline int backward_v6(struct bpf_sock_addr *ctx)
{
	struct sock_nat *nat = sock_nat_get(ctx);
	__be16 port = ctx->user_port;
	struct addr addr;

	read_v6(&addr, ctx);
	if (nat && sock_nat_reverse(nat, &addr, &port)) {
		write_v6(ctx, &addr);
		ctx->user_port = port;
	}
	return CALL_ALLOWED;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return forward_v4(ctx, true);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return forward_v6(ctx, true);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return forward_v4(ctx, false);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return forward_v6(ctx, false);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return backward_v4(ctx);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return backward_v6(ctx);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return backward_v4(ctx);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return backward_v6(ctx);
}

SEC("cgroup/post_bind4")
int post_bind4(struct bpf_sock *ctx)
{
	struct addr addr;

	addr_set_v4(&addr, ctx->src_ip4);
	return bind_check(ctx, &addr);
}

SEC("cgroup/post_bind6")
int post_bind6(struct bpf_sock *ctx)
{
	struct addr addr;

	addr.w[0] = ctx->src_ip6[0];
	addr.w[1] = ctx->src_ip6[1];
	addr.w[2] = ctx->src_ip6[2];
	addr.w[3] = ctx->src_ip6[3];
	return bind_check(ctx, &addr);
}

/*
 * The storage goes when the kernel frees the socket, which may be much later than its last close.
 * Until then it must not look like one that still talks to a backend (bpf_iter).
 */
SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *ctx)
{
	struct sock_nat *nat = bpf_sk_storage_get(&sock_nat, ctx, NULL, 0);

	if (nat)
		sock_nat_clear(nat);
	return CALL_ALLOWED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
