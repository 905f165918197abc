// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_host: external devices, tc ingress and egress. */
#include "lib/common.h"
#include "lib/flow.h"
#include "lib/outcome.h"

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	outcome_count(OUTCOME_STACK, HOOK_FROM_NETDEV, skb->len);
	return TC_ACT_OK;
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	outcome_count(OUTCOME_STACK, HOOK_TO_NETDEV, skb->len);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
