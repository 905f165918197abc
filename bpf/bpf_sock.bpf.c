// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf_sock: cgroup hooks that choose a backend when a socket is connected or sends. */
#include "lib/common.h"
#include "lib/outcome.h"
#include "lib/sock_nat.h"

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
