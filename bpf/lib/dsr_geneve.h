/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Direct server return through the Geneve device (RFC 8926): the tunnel option of every packet says
 * what the IP option says of a flow's first ones, so the backend's node needs no state to tell two
 * service addresses apart.
 */
#pragma once

#include "dsr_option.h"

/* RFC 8926 section 3.5: the class is not assigned by IANA; the type has the critical bit. */
#define DSR_GENEVE_CLASS 0x014b
#define DSR_GENEVE_TYPE 0x81

/* Of what comes from outside of the cluster. */
#define DSR_GENEVE_VNI 2

/* Bytes of struct bpf_tunnel_key in Linux 5.10, which every later one takes. */
#define DSR_TUNNEL_KEY_SIZE 28

struct dsr_geneve_option {
	__be16 class;
	__u8 type;
	__u8 words; /* of 4 bytes, of what follows */
};

/* The plain forms end before tag, and have zero for client_port. */
struct dsr_geneve_v4 {
	struct dsr_geneve_option option;
	__be32 vip;
	__be16 port;
	__be16 client_port;
	__u8 tag[8];
};
_Static_assert(sizeof(struct dsr_geneve_v4) == DSR_GENEVE_V4, "what the wire carries");

struct dsr_geneve_v6 {
	struct dsr_geneve_option option;
	__be32 vip[4];
	__be16 port;
	__be16 client_port;
	__u8 tag[8];
};
_Static_assert(sizeof(struct dsr_geneve_v6) == DSR_GENEVE_V6, "what the wire carries");

static __always_inline void dsr_geneve_start(struct dsr_geneve_option *option, __u32 size)
{
	option->class = bpf_htons(DSR_GENEVE_CLASS);
	option->type = DSR_GENEVE_TYPE;
	option->words = (size - sizeof(*option)) / 4;
}

/* Gives @skb the option for @mark on a packet with the addresses and ports of @key. */
static __always_inline long dsr_geneve_option_v4(struct __sk_buff *skb, const struct flow_key *key,
						 const struct dsr_mark *mark)
{
	const struct settings *settings = settings_get();
	const __u32 size = dsr_geneve_size(false);
	struct dsr_geneve_v4 option = {.vip = mark->vip.w[3], .port = mark->port};

	dsr_geneve_start(&option.option, size);
	if (!CONFIG.dsr_plain_out && settings) {
		const __u64 tag = dsr_tag(key, mark, settings->dsr_keys[0], false);

		option.client_port = mark->client_port;
		__builtin_memcpy(option.tag, &tag, sizeof(option.tag));
	}
	return bpf_skb_set_tunnel_opt(skb, &option, size);
}

static __always_inline long dsr_geneve_option_v6(struct __sk_buff *skb, const struct flow_key *key,
						 const struct dsr_mark *mark)
{
	const struct settings *settings = settings_get();
	const __u32 size = dsr_geneve_size(true);
	struct dsr_geneve_v6 option = {.port = mark->port};

	__builtin_memcpy(option.vip, &mark->vip, sizeof(option.vip));
	dsr_geneve_start(&option.option, size);
	if (!CONFIG.dsr_plain_out && settings) {
		const __u64 tag = dsr_tag(key, mark, settings->dsr_keys[0], true);

		option.client_port = mark->client_port;
		__builtin_memcpy(option.tag, &tag, sizeof(option.tag));
	}
	return bpf_skb_set_tunnel_opt(skb, &option, size);
}

/*
 * Says that @skb is to go to @node. Where the path is narrower than the device, the outer packet is
 * fragmented: an error about it would not reach the client.
 */
static __always_inline long dsr_geneve_to(struct __sk_buff *skb, const struct addr *node)
{
	struct bpf_tunnel_key tunnel = {
		.tunnel_id = DSR_GENEVE_VNI,
		.tunnel_ttl = DSR_OUTER_TTL,
	};

	if (addr_is_v4(node)) {
		tunnel.remote_ipv4 = bpf_ntohl(node->w[3]);
		return bpf_skb_set_tunnel_key(skb, &tunnel, DSR_TUNNEL_KEY_SIZE,
					      BPF_F_ZERO_CSUM_TX);
	}
	__builtin_memcpy(tunnel.remote_ipv6, node, sizeof(tunnel.remote_ipv6));
	/* RFC 8200 section 8.1: a receiver may refuse what has no checksum. */
	return bpf_skb_set_tunnel_key(skb, &tunnel, DSR_TUNNEL_KEY_SIZE, BPF_F_TUNINFO_IPV6);
}
