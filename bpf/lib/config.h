/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is fixed for the life of a loaded program, and what the agent may change under it.
 *
 * CONFIG lies in .rodata: the verifier knows its values and removes the branches they switch off.
 * `settings` is a map, for the few words that change while programs run.
 */
#pragma once

#include "addr.h"

/* How a packet tells the backend's node which service address it was sent to. */
enum dsr_dispatch {
	DSR_OFF = 0,	/* no such packet is sent or taken */
	DSR_OPTION = 1, /* an IPv4 option, an IPv6 destination option */
	DSR_IPIP = 2,	/* encapsulated as it came in IPv4 or IPv6, to the pod's address */
	DSR_GENEVE = 3, /* through the Geneve device, in a tunnel option */
};

/* Set by the agent in each object before load. Ports are in host byte order, times in ticks
 * (clock.h). */
struct config {
	/* SO_NETNS_COOKIE of the network namespace that is the node; 0 where the kernel does not
	 * tell it (below 5.14): the initial namespace then stands for the node. */
	__u64 host_netns_cookie;

	/* Source of a pod's packet to itself through its own service. */
	struct addr hairpin_v4;
	struct addr hairpin_v6;

	/* Inclusive. NodePorts come from here, SNAT ports never do. */
	__u16 nodeport_min;
	__u16 nodeport_max;

	/* Inclusive. */
	__u16 snat_port_min;
	__u16 snat_port_max;

	__u32 tcp_syn_timeout;
	__u32 tcp_established_timeout;
	__u32 tcp_closing_timeout;
	__u32 udp_unreplied_timeout;
	__u32 udp_stream_timeout;

	/* `maglev.hashSeed`, its twelve bytes in their order. */
	__u32 maglev_seed[3];

	/* Booleans. */
	__u8 socket_lb;
	__u8 socket_lb_host_only;
	__u8 bind_protection;
	__u8 nodeport; /* serve NodePorts */
	__u8 bpf_host_routing;
	__u8 spoof_check;
	/* externalIPs that the node does not own are served to pods and the node too
	   (CVE-2020-8554). */
	__u8 external_ips_inside;
	__u8 dsr_dispatch;  /* enum dsr_dispatch */
	__u8 dsr_plain_in;  /* take dispatched packets without a tag, from anyone */
	__u8 dsr_plain_out; /* send the option without a tag, as others read it */
	__u8 pad[6];
};
_Static_assert(sizeof(struct config) == 96, "config is ABI with the agent");

const volatile struct config CONFIG = {};

struct settings {
	/* Moves when routes, neighbours' addresses or links changed: cached routes are looked up
	 * again. */
	__u32 route_epoch;
	/* Bit mask of 1 << enum hook whose packets are traced into `events`. */
	__u32 trace;
	/* Number of wildcard frontends outside the NodePort range: 0 spares their lookup. */
	__u32 host_ports;
	/* Device for DSR_GENEVE, 0: there is none and such flows get SNAT. */
	__u32 geneve_ifindex;
	/* Of the tag in DSR options (dsr_option.h), the same on all nodes: the first signs, either
	 * is good; zero: none. */
	__u64 dsr_keys[2][2];
	/* Outer source of packets dispatched by IPIP and IP6IP6: the node's own addresses, zero
	 * where it has none. */
	struct addr dsr_source_v4;
	struct addr dsr_source_v6;
};
_Static_assert(sizeof(struct settings) == 80, "settings is map ABI");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} settings SEC(".maps");

static __always_inline const struct settings *settings_get(void)
{
	const __u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}
