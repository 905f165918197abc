// SPDX-License-Identifier: Apache-2.0
/* Gives a packet the tunnel option that a Geneve device would have read, and another program. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct option {
	__u32 size;
	__u8 bytes[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct option);
	__uint(max_entries, 1);
} carried SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} next SEC(".maps");

/* What no program here returns. */
#define FAILED 99

SEC("tc")
int tunnelled(struct __sk_buff *skb)
{
	struct bpf_tunnel_key tunnel = {.tunnel_id = 2, .remote_ipv4 = 0x0a090002};
	const __u32 zero = 0;
	struct option *option = bpf_map_lookup_elem(&carried, &zero);
	__u32 size;

	if (!option || bpf_skb_set_tunnel_key(skb, &tunnel, sizeof(tunnel), 0))
		return FAILED;
	size = option->size;
	if (size && size <= sizeof(option->bytes) &&
	    bpf_skb_set_tunnel_opt(skb, option->bytes, size))
		return FAILED;
	bpf_tail_call(skb, &next, 0);
	return FAILED;
}

char LICENSE[] SEC("license") = "GPL";
