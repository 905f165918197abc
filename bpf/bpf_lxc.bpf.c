// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_lxc: the host side of a pod's veth pair. */
#include "lib/common.h"
#include "lib/neighbour.h"
#include "lib/pod.h"
#include "lib/pod_leave.h"

/* A pod's packet: flow, then a pod of this node, then a service, then the routing table. */
static __always_inline int leave_pod(struct __sk_buff *skb, const bool v6)
{
	struct packet packet = {.key.zone = ZONE_POD};
	const enum hook hook = HOOK_FROM_CONTAINER;
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
	if (v6 && packet.key.proto == IPPROTO_ICMPV6) {
		action = neighbour_solicit(skb, &packet, hook);
		if (action >= 0)
			return action;
	}

	if (CONFIG.spoof_check) {
		switch (pod_source(skb, &packet)) {
		case POD_SOURCE_OWN:
			break;
		case POD_SOURCE_LINK:
			return report(skb, &packet, hook, OUTCOME_STACK, 0, TC_ACT_OK);
		case POD_SOURCE_FOREIGN:
			return report_drop(skb, &packet, hook, DROP_SPOOFED, 0);
		}
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
	if (pod_is_multicast(&packet.key.daddr))
		return report(skb, &packet, hook, OUTCOME_STACK, 0, TC_ACT_OK);

	if (parsed == PARSED_L4) {
		service = balance_frontend(&packet);
		if (service)
			return balance(skb, &packet, service, hook, now, v6);
		if (packet_opens(&packet)) {
			action = pod_keep_apart(skb, &packet, hook, ZONE_WIRE, 0, now, v6);
			if (action != TRANSLATE_MISS)
				return action;
		}
	}
	return pod_route(skb, &packet, hook);
}

SEC("tc")
int from_container(struct __sk_buff *skb)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return leave_pod(skb, false);
	case bpf_htons(ETH_P_IPV6):
		return leave_pod(skb, true);
	case bpf_htons(ETH_P_ARP):
		return neighbour_arp(skb, HOOK_FROM_CONTAINER);
	default:
		outcome_count(DROP_MALFORMED, HOOK_FROM_CONTAINER, skb->len);
		return TC_ACT_SHOT;
	}
}

/* What the host's stack sends to the pod: answers of the host's own servers to service clients. */
static __always_inline int enter_pod(struct __sk_buff *skb, const bool v6)
{
	struct packet packet = {.key.zone = ZONE_HOST};
	int action;

	if (packet_parse(skb, &packet, v6) == PARSED_L4) {
		action = translate_from_host(skb, &packet, HOOK_TO_CONTAINER, clock_ticks(), v6);
		if (action != TRANSLATE_MISS)
			return action;
	}
	return report(skb, &packet, HOOK_TO_CONTAINER, OUTCOME_LOCAL, 0, TC_ACT_OK);
}

SEC("tc")
int to_container(struct __sk_buff *skb)
{
	if (output_is_finished(skb))
		return TC_ACT_OK;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return enter_pod(skb, false);
	case bpf_htons(ETH_P_IPV6):
		return enter_pod(skb, true);
	default:
		return TC_ACT_OK;
	}
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
