// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf_overlay: the tunnel device, packets after decapsulation and before encapsulation.
 *
 * Nothing but requests by direct server return comes through it.
 */
#include "lib/common.h"
#include "lib/dsr_tunnel.h"
#include "lib/translate.h"

static __always_inline int enter_tunnelled(struct __sk_buff *skb, struct packet *packet,
					   const bool v6)
{
	const __u32 now = clock_ticks();
	struct flow *flow = NULL;
	int done, why;

	if (packet_parse(skb, packet, v6) != PARSED_L4 || !scratch_put(packet))
		return verdict_drop(DROP_DSR_MALFORMED);
	why = dsr_tunnel(skb);
	if (!why)
		why = dsr_unmark(skb, &flow, now);
	if (why > 0)
		return verdict_drop(why);
	packet->key.zone = -why;
	if (packet_parse(skb, packet, v6) != PARSED_L4)
		return verdict_drop(DROP_DSR_MALFORMED);
	done = translate(skb, packet, flow, now, v6);
	return done != VERDICT_NONE ? done : verdict_drop(DROP_FLOWS_FULL);
}

SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	struct packet packet = {.key.zone = ZONE_OVERLAY};
	int decided;

	output_forget(skb);
	if (!CONFIG.dsr_dispatch)
		decided = verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
	/* The inner MAC address is the LB node's: without this the stack would not take it. */
	else if (bpf_skb_change_type(skb, PACKET_HOST))
		decided = verdict_drop(DROP_REWRITE);
	else if (skb->protocol == bpf_htons(ETH_P_IP))
		decided = enter_tunnelled(skb, &packet, false);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		decided = enter_tunnelled(skb, &packet, true);
	else
		decided = verdict_drop(DROP_DSR_MALFORMED);
	return report(skb, &packet, HOOK_FROM_OVERLAY, decided);
}

SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	outcome_count(OUTCOME_STACK, HOOK_TO_OVERLAY, skb->len);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
