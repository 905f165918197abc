// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_lxc: the host side of a pod's veth pair. */
#include "lib/common.h"
#include "lib/flow.h"
#include "lib/outcome.h"

SEC("tc")
int from_container(struct __sk_buff *skb)
{
	outcome_count(OUTCOME_STACK, HOOK_FROM_CONTAINER, skb->len);
	return TC_ACT_OK;
}

SEC("tc")
int to_container(struct __sk_buff *skb)
{
	outcome_count(OUTCOME_STACK, HOOK_TO_CONTAINER, skb->len);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
