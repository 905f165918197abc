// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf_xdp: the driver hook on external devices.
 *
 * What it does not finish it passes up untouched: bpf_host reaches the same verdict for it.
 */
#include "lib/common.h"
#include "lib/flow.h"
#include "lib/outcome.h"

SEC("xdp")
int xdp_entry(struct xdp_md *ctx)
{
	outcome_count(OUTCOME_STACK, HOOK_XDP, ctx->data_end - ctx->data);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
