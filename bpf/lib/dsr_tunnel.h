/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The backend node's part of direct server return by Geneve: what the tunnel option says. */
#pragma once

#include "dsr_accept.h"
#include "dsr_geneve.h"

/* Whether @option, of which @size bytes came, is ours and as long as it says. */
static __always_inline bool dsr_tunnel_is_ours(const struct dsr_geneve_option *option, long size)
{
	return size >= (long)sizeof(*option) && option->type == DSR_GENEVE_TYPE &&
	       option->class == bpf_htons(DSR_GENEVE_CLASS) &&
	       sizeof(*option) + option->words * 4 == size;
}

/*
 * Judges scratch->mark, which has what the plain form says, by an option of @size bytes, @whole
 * with its tag. Returns 0 or the drop reason.
 */
static __always_inline int dsr_tunnel_judge(struct scratch *scratch, long size, const long whole,
					    __be16 client_port, const __u8 *tag, const bool v6)
{
	struct dsr_mark *mark = &scratch->mark;

	mark->client_port = scratch->packet.key.sport;
	if (size == whole - DSR_GENEVE_TAG)
		return CONFIG.dsr_plain_in ? 0 : DROP_DSR_TAG;
	if (size != whole)
		return DROP_DSR_MALFORMED;
	mark->client_port = client_port;
	return dsr_genuine(&scratch->packet.key, mark, tag, DSR_GENEVE_TAG, v6) ? 0 : DROP_DSR_TAG;
}

/* Reads the tunnel option of scratch->packet into scratch->mark. Returns 0 or the drop reason. */
static __always_inline int dsr_tunnel_v4(struct __sk_buff *skb, struct scratch *scratch)
{
	struct dsr_geneve_v4 option = {};
	const long size = bpf_skb_get_tunnel_opt(skb, &option, sizeof(option));

	if (!dsr_tunnel_is_ours(&option.option, size))
		return DROP_DSR_MALFORMED;
	addr_set_v4(&scratch->mark.vip, option.vip);
	scratch->mark.port = option.port;
	return dsr_tunnel_judge(scratch, size, sizeof(option), option.client_port, option.tag,
				false);
}

static __always_inline int dsr_tunnel_v6(struct __sk_buff *skb, struct scratch *scratch)
{
	struct dsr_geneve_v6 option = {};
	const long size = bpf_skb_get_tunnel_opt(skb, &option, sizeof(option));

	if (!dsr_tunnel_is_ours(&option.option, size))
		return DROP_DSR_MALFORMED;
	addr_set_v6(&scratch->mark.vip, option.vip);
	scratch->mark.port = option.port;
	return dsr_tunnel_judge(scratch, size, sizeof(option), option.client_port, option.tag,
				true);
}

/*
 * Reads what the tunnel says of scratch->packet, whose ports are known. Only what is marked and for
 * a backend of this node is taken: the device's port is open to everybody who reaches the node.
 * Returns 0 or the drop reason.
 */
__noinline int dsr_tunnel(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	int why;

	if (!scratch)
		return DROP_FLOWS_FULL;
	if (addr_is_v4(&scratch->packet.key.saddr))
		why = dsr_tunnel_v4(skb, scratch);
	else
		why = dsr_tunnel_v6(skb, scratch);
	if (why)
		return why;
	if (!endpoint_lookup(&scratch->packet.key.daddr) &&
	    !owned_lookup(&scratch->packet.key.daddr))
		return DROP_DSR_SERVICE;
	return 0;
}
