// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_lxc: the host side of a pod's veth pair. */
#include "lib/common.h"
#include "lib/fragment_translate.h"
#include "lib/icmp_error.h"
#include "lib/neighbour.h"
#include "lib/pod.h"
#include "lib/pod_leave.h"

/* A pod's packet: flow, then a pod of this node, then a service, then the routing table. */
static __always_inline int leave_pod(struct __sk_buff *skb, struct packet *packet, const bool v6)
{
	const enum parsed parsed = packet_parse(skb, packet, v6);
	const struct endpoint *endpoint;
	int done;

	if (parsed == PARSED_SHORT)
		return verdict_drop(DROP_MALFORMED);
	if (parsed == PARSED_L4) {
		done = pod_direct(skb, packet, v6);
		if (done != VERDICT_NONE)
			return done;
		done = translate(skb, packet, NULL, clock_ticks(), v6);
		if (done != VERDICT_NONE)
			return done;
	}
	if (v6 && packet->key.proto == IPPROTO_ICMPV6) {
		done = neighbour_solicit(skb, packet);
		if (done != VERDICT_NONE)
			return done;
	}

	if (CONFIG.spoof_check) {
		switch (pod_source(skb, packet)) {
		case POD_SOURCE_OWN:
			break;
		case POD_SOURCE_LINK:
			return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
		case POD_SOURCE_FOREIGN:
			return verdict_drop(DROP_SPOOFED);
		}
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
	if (pod_is_multicast(&packet->key.daddr))
		return verdict(OUTCOME_STACK, TC_ACT_UNSPEC);

	done = balance(skb, packet, parsed);
	if (done != VERDICT_NONE)
		return done;
	if (parsed == PARSED_L4) {
		done = pod_keep_apart(skb, packet, ZONE_WIRE, 0);
		if (done != VERDICT_NONE)
			return done;
	}
	done = pod_route(skb, packet);
	if (parsed == PARSED_L4 && done == verdict(OUTCOME_STACK, TC_ACT_UNSPEC)) {
		const int apart = pod_keep_apart(skb, packet, ZONE_HOST, 0);

		if (apart != VERDICT_NONE)
			return apart;
	}
	return done;
}

SEC("tc")
int from_container(struct __sk_buff *skb)
{
	struct packet packet = {.key.zone = ZONE_POD};
	int decided;

	output_forget(skb);
	/* Its tag would go out of the uplink with it, into whichever network that is there. */
	if (skb->vlan_present)
		return report(skb, &packet, HOOK_FROM_CONTAINER, verdict_drop(DROP_MALFORMED));
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		decided = leave_pod(skb, &packet, false);
		break;
	case bpf_htons(ETH_P_IPV6):
		decided = leave_pod(skb, &packet, true);
		break;
	case bpf_htons(ETH_P_ARP):
		decided = neighbour_arp(skb);
		break;
	default:
		decided = verdict_drop(DROP_MALFORMED);
		break;
	}
	return report(skb, &packet, HOOK_FROM_CONTAINER, decided);
}

/* What the host's stack sends to the pod: answers of the host's own servers to service clients. */
static __always_inline int enter_pod(struct __sk_buff *skb, struct packet *packet, const bool v6)
{
	const enum parsed parsed = packet_parse(skb, packet, v6);
	int done = VERDICT_NONE;

	if (parsed == PARSED_L4)
		done = translate_from_host(skb, packet, clock_ticks(), v6);
	else if (parsed == PARSED_L3)
		done = packet->fragment ? fragment_from_host(skb, packet)
					: icmp_translate(skb, packet, v6);
	if (done != VERDICT_NONE)
		return done;
	return verdict(OUTCOME_LOCAL, TC_ACT_UNSPEC);
}

SEC("tc")
int to_container(struct __sk_buff *skb)
{
	struct packet packet = {.key.zone = ZONE_HOST};
	int decided;

	if (output_is_finished(skb))
		return TC_ACT_UNSPEC;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		decided = enter_pod(skb, &packet, false);
		break;
	case bpf_htons(ETH_P_IPV6):
		decided = enter_pod(skb, &packet, true);
		break;
	default:
		return TC_ACT_UNSPEC;
	}
	return report(skb, &packet, HOOK_TO_CONTAINER, decided);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
