// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_host: external devices. Service traffic from outside, and the way into pods. */
#define FROM_WIRE 1

#include "lib/common.h"
#include "lib/dsr_accept.h"
#include "lib/dsr_unwrap.h"
#include "lib/fragment_translate.h"
#include "lib/icmp_error.h"
#include "lib/pod.h"

/* A packet from the wire: flow, then a pod of this node, then a service, then the stack. */
static __always_inline int enter_node(struct __sk_buff *skb, struct packet *packet, const bool v6)
{
	const __u32 now = clock_ticks();
	const struct endpoint *endpoint;
	struct flow *flow = NULL;
	enum parsed parsed;
	bool taken = false;
	int done;

	if (CONFIG.dsr_dispatch) {
		done = dsr_unwrap(skb, packet, &flow, now, v6);
		if (done == VERDICT_NONE)
			done = dsr_accept(skb, packet, &flow, now, v6);
		taken = done == DSR_TAKEN;
		if (done != VERDICT_NONE && !taken)
			return done;
	}
	parsed = packet_parse(skb, packet, v6);
	if (parsed == PARSED_SHORT)
		return verdict_drop(DROP_MALFORMED);
	if (parsed == PARSED_L4) {
		done = translate(skb, packet, flow, now, v6);
		if (done != VERDICT_NONE)
			return done;
		/* Without a flow, none may be chosen here. */
		if (taken)
			return verdict_drop(DROP_DSR_CONFLICT);
	}

	if (parsed == PARSED_L3) {
		done = packet->fragment ? fragment_translate(skb, packet)
					: icmp_translate(skb, packet, v6);
		if (done != VERDICT_NONE)
			return done;
	}

	endpoint = endpoint_lookup(&packet->key.daddr);
	if (endpoint) {
		if (parsed == PARSED_L4) {
			done = pod_keep_apart(skb, packet, ZONE_POD, endpoint->ifindex);
			if (done != VERDICT_NONE)
				return done;
		}
		return pod_deliver(skb, packet, endpoint, v6);
	}

	done = balance(skb, packet, parsed);
	if (done != VERDICT_NONE)
		return done;
	if (parsed == PARSED_L4) {
		done = pod_keep_apart(skb, packet, ZONE_HOST, 0);
		if (done != VERDICT_NONE)
			return done;
	}
	return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
}

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	struct packet packet = {.key.zone = ZONE_WIRE};
	int decided;

	output_forget(skb);
	/* Flooded by a switch, or for a VLAN device above this one, which has a program itself. */
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return report(skb, &packet, HOOK_FROM_NETDEV,
			      verdict(OUTCOME_STACK, TC_ACT_UNSPEC));
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		decided = enter_node(skb, &packet, false);
		break;
	case bpf_htons(ETH_P_IPV6):
		decided = enter_node(skb, &packet, true);
		break;
	default:
		decided = verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
		break;
	}
	return report(skb, &packet, HOOK_FROM_NETDEV, decided);
}

/* A packet from the host's own stack. */
static __always_inline int leave_node(struct __sk_buff *skb, struct packet *packet, const bool v6)
{
	const enum parsed parsed = packet_parse(skb, packet, v6);
	int done = VERDICT_NONE;

	if (parsed == PARSED_L4) {
		done = translate_from_host(skb, packet, clock_ticks(), v6);
		if (done == VERDICT_NONE)
			done = unserved_from_host(skb, packet);
		if (done == VERDICT_NONE)
			done = pod_keep_apart(skb, packet, ZONE_WIRE, 0);
	} else if (parsed == PARSED_L3) {
		done = packet->fragment ? fragment_from_host(skb, packet)
					: icmp_translate(skb, packet, v6);
	}
	return done != VERDICT_NONE ? done : verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	struct packet packet = {.key.zone = ZONE_HOST};
	int decided;

	if (output_is_finished(skb))
		return TC_ACT_UNSPEC;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		decided = leave_node(skb, &packet, false);
		break;
	case bpf_htons(ETH_P_IPV6):
		decided = leave_node(skb, &packet, true);
		break;
	default:
		return TC_ACT_UNSPEC;
	}
	return report(skb, &packet, HOOK_TO_NETDEV, decided);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
