// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf_maps: every map of Culvert and no program.
 *
 * The agent loads it first, or finds its maps pinned; the five program objects then share those
 * maps. Its skeleton is also where the Rust side finds every struct's layout.
 */
#include "lib/affinity.h"
#include "lib/common.h"
#include "lib/endpoint.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "lib/fragment_hold.h"
#include "lib/handover.h"
#include "lib/maglev.h"
#include "lib/nodes.h"
#include "lib/outcome.h"
#include "lib/owned.h"
#include "lib/pod_pair.h"
#include "lib/scratch.h"
#include "lib/service.h"
#include "lib/sock_nat.h"
#include "lib/source_range.h"
#include "lib/uplink.h"
#include "lib/vip.h"
#include "lib/xdp_device.h"

/* Types that no map mentions are exported through a reference. */
const struct event *unused_event __attribute__((unused));
const enum hook *unused_hook __attribute__((unused));
const enum outcome *unused_outcome __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
