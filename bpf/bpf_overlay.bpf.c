// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_overlay: the tunnel device, packets after decapsulation and before encapsulation. */
#include "lib/common.h"
#include "lib/flow.h"
#include "lib/outcome.h"

SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	outcome_count(OUTCOME_STACK, HOOK_FROM_OVERLAY, skb->len);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	outcome_count(OUTCOME_STACK, HOOK_TO_OVERLAY, skb->len);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
