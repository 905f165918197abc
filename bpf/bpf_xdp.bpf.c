// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf_xdp: the driver hook on external devices.
 *
 * Service traffic to and from backends of other nodes is finished here. What is not goes up
 * untouched: bpf_host reaches the same verdict for it.
 */
#define CTX struct xdp_md
/* Not that of the context where the frame has a tag. */
#define ctx_input(ctx) scratch_input()

#include "lib/common.h"
#include "lib/scratch.h"

static __always_inline __u32 scratch_input(void)
{
	const struct scratch *scratch = scratch_get();

	return scratch ? scratch->packet.input : 0;
}

#include "lib/xdp_open.h"

/* Leaves in @ip_len how long the IP packet says that it is. */
static __always_inline int enter_driver(struct xdp_md *ctx, struct packet *packet, __u32 *ip_len,
					__u32 l3_off, const bool v6)
{
	int action;

	if (!xdp_parse(ctx, packet, ip_len, l3_off, v6))
		return XDP_PASS;
	action = xdp_forward(ctx, packet, *ip_len, v6);
	if (action != VERDICT_NONE)
		return action;
	if (packet->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST))
		return XDP_PASS;
	return xdp_open(ctx, packet, *ip_len);
}

/* The bytes of a frame whose IP packet has @ip_len. A large one may lie in several buffers. */
static __always_inline __u32 frame_length(struct xdp_md *ctx, __u32 ip_len)
{
	const __u32 first = xdp_data_end(ctx) - xdp_data(ctx);

	if (ip_len + ETH_HLEN <= first ||
	    !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_xdp_get_buff_len))
		return first;
	return bpf_xdp_get_buff_len(ctx);
}

/* Counts what was decided, and tells it where that is traced. */
static __always_inline int finish(struct xdp_md *ctx, const struct packet *packet, __u32 ip_len,
				  int action)
{
	const enum outcome outcome = action == XDP_PASS ? OUTCOME_STACK : OUTCOME_FORWARDED;
	const __u32 length = frame_length(ctx, ip_len);
	const struct settings *settings = settings_get();

	outcome_count(outcome, HOOK_XDP, length);
	if (settings && (settings->trace & (1u << HOOK_XDP)))
		report_frame(ctx->ingress_ifindex, length, packet, HOOK_XDP, outcome);
	return action;
}

SEC("xdp")
int xdp_entry(struct xdp_md *ctx)
{
	struct packet packet = {.key.zone = ZONE_WIRE, .input = ctx->ingress_ifindex};
	const struct ethhdr *eth = xdp_data(ctx);
	__u32 l3_off = ETH_HLEN, ip_len = 0;
	int action = XDP_PASS;
	__be16 proto;

	if ((void *)(eth + 1) > xdp_data_end(ctx))
		return XDP_PASS;
	proto = eth->h_proto;
	if (xdp_is_tag(proto))
		proto = xdp_untag(ctx, &packet, &l3_off);
	if (proto == bpf_htons(ETH_P_IP))
		action = enter_driver(ctx, &packet, &ip_len, l3_off, false);
	else if (proto == bpf_htons(ETH_P_IPV6))
		action = enter_driver(ctx, &packet, &ip_len, l3_off, true);
	return finish(ctx, &packet, ip_len, action);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
