// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_host: external devices. Service traffic from outside, and the way into pods. */
#include "lib/common.h"
#include "lib/pod.h"

/* A packet from the wire: flow, then a pod of this node, then a service, then the stack. */
static __always_inline int enter_node(struct __sk_buff *skb, const bool v6)
{
	struct packet packet = {.key.zone = ZONE_WIRE};
	const enum hook hook = HOOK_FROM_NETDEV;
	const __u32 now = clock_ticks();
	const struct endpoint *endpoint;
	const struct service *service;
	enum parsed parsed;
	int action;

	parsed = packet_parse(skb, &packet, v6);
	if (parsed == PARSED_SHORT)
		return report_drop(skb, &packet, hook, DROP_MALFORMED, 0);
	if (parsed == PARSED_L4) {
		action = translate(skb, &packet, hook, now, v6);
		if (action != TRANSLATE_MISS)
			return action;
	}

	endpoint = endpoint_lookup(&packet.key.daddr);
	if (endpoint) {
		if (parsed == PARSED_L4 && packet_opens(&packet)) {
			action = pod_keep_apart(skb, &packet, hook, ZONE_POD, endpoint->ifindex,
						now, v6);
			if (action != TRANSLATE_MISS)
				return action;
		}
		return pod_deliver(skb, &packet, hook, endpoint, v6);
	}

	if (parsed == PARSED_L4) {
		service = balance_frontend(&packet);
		if (service)
			return balance(skb, &packet, service, hook, now, v6);
	}
	return report(skb, &packet, hook, OUTCOME_STACK, 0, TC_ACT_OK);
}

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return enter_node(skb, false);
	case bpf_htons(ETH_P_IPV6):
		return enter_node(skb, true);
	default:
		outcome_count(OUTCOME_STACK, HOOK_FROM_NETDEV, skb->len);
		return TC_ACT_OK;
	}
}

/* A packet from the host's own stack. */
static __always_inline int leave_node(struct __sk_buff *skb, const bool v6)
{
	struct packet packet = {.key.zone = ZONE_HOST};
	const enum hook hook = HOOK_TO_NETDEV;
	const __u32 now = clock_ticks();
	int action;

	if (packet_parse(skb, &packet, v6) == PARSED_L4) {
		action = translate_from_host(skb, &packet, hook, now, v6);
		if (action != TRANSLATE_MISS)
			return action;
		if (packet_opens(&packet)) {
			action = pod_keep_apart(skb, &packet, hook, ZONE_WIRE, 0, now, v6);
			if (action != TRANSLATE_MISS)
				return action;
		}
	}
	return report(skb, &packet, hook, OUTCOME_STACK, 0, TC_ACT_OK);
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	if (output_is_finished(skb))
		return TC_ACT_OK;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return leave_node(skb, false);
	case bpf_htons(ETH_P_IPV6):
		return leave_node(skb, true);
	default:
		return TC_ACT_OK;
	}
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
