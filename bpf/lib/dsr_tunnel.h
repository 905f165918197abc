/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The backend node's part of direct server return by Geneve: what the tunnel option says. */
#pragma once

#include "dsr_accept.h"
#include "dsr_geneve.h"

/* Reads the tunnel option of scratch->packet into scratch->mark. Returns 0 or the drop reason. */
static __always_inline int dsr_tunnel_v4(struct __sk_buff *skb, struct scratch *scratch)
{
	struct dsr_mark *mark = &scratch->mark;
	struct dsr_geneve_v4 option = {};
	long size;

	size = bpf_skb_get_tunnel_opt(skb, &option, sizeof(option));
	if (size < (long)sizeof(option.option) || option.option.type != DSR_GENEVE_TYPE ||
	    option.option.class != bpf_htons(DSR_GENEVE_CLASS) ||
	    sizeof(option.option) + option.option.words * 4 != size)
		return DROP_DSR_MALFORMED;
	addr_set_v4(&mark->vip, option.vip);
	mark->port = option.port;
	mark->client_port = scratch->packet.key.sport;
	if (size == sizeof(option) - DSR_GENEVE_TAG)
		return CONFIG.dsr_plain_in ? 0 : DROP_DSR_TAG;
	if (size != sizeof(option))
		return DROP_DSR_MALFORMED;
	mark->client_port = option.client_port;
	return dsr_genuine(&scratch->packet.key, mark, option.tag, sizeof(option.tag), false)
		       ? 0
		       : DROP_DSR_TAG;
}

static __always_inline int dsr_tunnel_v6(struct __sk_buff *skb, struct scratch *scratch)
{
	struct dsr_mark *mark = &scratch->mark;
	struct dsr_geneve_v6 option = {};
	long size;

	size = bpf_skb_get_tunnel_opt(skb, &option, sizeof(option));
	if (size < (long)sizeof(option.option) || option.option.type != DSR_GENEVE_TYPE ||
	    option.option.class != bpf_htons(DSR_GENEVE_CLASS) ||
	    sizeof(option.option) + option.option.words * 4 != size)
		return DROP_DSR_MALFORMED;
	addr_set_v6(&mark->vip, option.vip);
	mark->port = option.port;
	mark->client_port = scratch->packet.key.sport;
	if (size == sizeof(option) - DSR_GENEVE_TAG)
		return CONFIG.dsr_plain_in ? 0 : DROP_DSR_TAG;
	if (size != sizeof(option))
		return DROP_DSR_MALFORMED;
	mark->client_port = option.client_port;
	return dsr_genuine(&scratch->packet.key, mark, option.tag, sizeof(option.tag), true)
		       ? 0
		       : DROP_DSR_TAG;
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
