/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The backend node's part of direct server return by IPIP and IP6IP6: packets to a backend of this
 * node that hold one to a service.
 */
#pragma once

#include "choose.h"
#include "dsr_ipip.h"
#include "dsr_join.h"
#include "flow_open.h"
#include "nodes.h"

enum dsr_wrapped {
	DSR_WRAPPED_NOT = 0, /* nothing of ours */
	DSR_WRAPPED_SO = 1,  /* scratch says what is in it */
	DSR_WRAPPED_NEW = 2, /* scratch says which flow to open */
	DSR_WRAPPED_OWN = 3, /* of a flow that is open, as an LB node's */
};

struct dsr_wrap_v4 {
	struct iphdr outer;
	struct iphdr inner;
};

struct dsr_wrap_v6 {
	struct ipv6hdr outer;
	struct ipv6hdr inner;
	__be16 ports[2];
};

/*
 * Reads both headers: the inner one into scratch->packet, whose l4_off counts from the outer one,
 * and the outer one's ends and port.
 */
static __always_inline bool dsr_wrap_v4_read(struct __sk_buff *skb, struct scratch *scratch,
					     struct addr *from, __be16 *port)
{
	struct flow_key *key = &scratch->packet.key;
	struct dsr_wrap_v4 wrap;
	__be16 ports[2];
	__u32 l4;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &wrap, sizeof(wrap)) ||
	    *(__u8 *)&wrap.outer != 0x45 || wrap.inner.version != 4 || wrap.inner.ihl < 5 ||
	    ((wrap.outer.frag_off | wrap.inner.frag_off) &
	     bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS)))
		return false;
	l4 = ETH_HLEN + sizeof(wrap.outer) + wrap.inner.ihl * 4;
	if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
		return false;
	scratch->packet.l4_off = l4;
	addr_set_v4(from, wrap.outer.saddr);
	*port = wrap.outer.id;
	addr_set_v4(&scratch->plan.daddr, wrap.outer.daddr);
	addr_set_v4(&key->saddr, wrap.inner.saddr);
	addr_set_v4(&key->daddr, wrap.inner.daddr);
	key->proto = wrap.inner.protocol;
	key->sport = ports[0];
	key->dport = ports[1];
	scratch->packet.ttl = wrap.inner.ttl;
	return true;
}

static __always_inline bool dsr_wrap_v6_read(struct __sk_buff *skb, struct scratch *scratch,
					     struct addr *from, __be16 *port)
{
	struct flow_key *key = &scratch->packet.key;
	struct dsr_wrap_v6 wrap;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &wrap, sizeof(wrap)) || wrap.outer.version != 6 ||
	    wrap.inner.version != 6)
		return false;
	scratch->packet.l4_off = ETH_HLEN + 2 * sizeof(struct ipv6hdr);
	addr_set_v6(from, wrap.outer.saddr.in6_u.u6_addr32);
	*port = *(__be16 *)&wrap.outer.flow_lbl[1];
	addr_set_v6(&scratch->plan.daddr, wrap.outer.daddr.in6_u.u6_addr32);
	addr_set_v6(&key->saddr, wrap.inner.saddr.in6_u.u6_addr32);
	addr_set_v6(&key->daddr, wrap.inner.daddr.in6_u.u6_addr32);
	key->proto = wrap.inner.nexthdr;
	key->sport = wrap.ports[0];
	key->dport = wrap.ports[1];
	scratch->packet.ttl = wrap.inner.hop_limit;
	return true;
}

/*
 * Says whether an encapsulated packet may be one that was dispatched to a backend of this node:
 * DSR_WRAPPED_SO or DSR_WRAPPED_NOT, or the negative drop reason. Strangers are not told apart from
 * pods and hosts with tunnels of their own: their packets stay as they are.
 */
__noinline int dsr_wrapped(struct __sk_buff *skb, bool v6)
{
	struct scratch *scratch = scratch_get();
	const struct node *node;
	struct packet *packet;
	struct addr from;
	__be16 port;

	if (!scratch)
		return -DROP_FLOWS_FULL;
	packet = &scratch->packet;
	__builtin_memset(packet, 0, sizeof(*packet));
	__builtin_memset(&scratch->plan, 0, sizeof(scratch->plan));
	packet->key.zone = ZONE_OVERLAY;
	if (!(v6 ? dsr_wrap_v6_read(skb, scratch, &from, &port)
		 : dsr_wrap_v4_read(skb, scratch, &from, &port)))
		return DSR_WRAPPED_NOT;
	if (!endpoint_lookup(&scratch->plan.daddr) && !owned_lookup(&scratch->plan.daddr))
		return DSR_WRAPPED_NOT;
	if (packet->key.proto != IPPROTO_TCP && packet->key.proto != IPPROTO_UDP &&
	    packet->key.proto != IPPROTO_SCTP)
		return DSR_WRAPPED_NOT;

	/* A node says which port its backend has; of anyone else it must be the service's. */
	node = node_lookup(&from);
	if (!node || !(node->flags & NODE_ADDRESS)) {
		if (!CONFIG.dsr_plain_in)
			return DSR_WRAPPED_NOT;
		port = packet->key.dport;
	}
	scratch->plan.dport = port;
	if (packet->key.proto == IPPROTO_TCP &&
	    bpf_skb_load_bytes(skb, packet->l4_off + TCP_FLAGS_OFFSET, &packet->tcp_flags, 1))
		return -DROP_DSR_MALFORMED;
	return DSR_WRAPPED_SO;
}

/*
 * As dsr_wrapped(), of scratch->packet, which that has read and no live flow is known for: one of
 * the other answers.
 */
__noinline int dsr_wrapped_first(struct __sk_buff *skb)
{
	struct scratch *scratch = scratch_get();
	const __u32 now = clock_ticks();
	const struct endpoint *endpoint;
	const struct service *service;
	struct packet *packet;
	struct flow *flow;

	if (!scratch)
		return -DROP_FLOWS_FULL;
	packet = &scratch->packet;
	flow = flow_find(&packet->key, now);
	/* The client uses its port again, and the LB node has chosen anew. */
	if (flow)
		flow_close(&packet->key, flow);
	else if (dsr_is_own(packet, &packet->key, &scratch->plan.daddr, scratch->plan.dport, now))
		return DSR_WRAPPED_OWN;

	endpoint = endpoint_lookup(&scratch->plan.daddr);
	service = service_lookup(&packet->key.daddr, packet->key.dport, packet->key.proto);
	if (!service && choose_may_be_wildcard(bpf_ntohs(packet->key.dport)))
		service = service_lookup_wildcard(&packet->key.daddr, packet->key.dport,
						  packet->key.proto);
	if (!service)
		return endpoint ? -DROP_DSR_SERVICE : DSR_WRAPPED_NOT;
	packet->service = service->id;
	scratch->plan.saddr = packet->key.saddr;
	scratch->plan.service = service->id;
	scratch->plan.reverse_zone = endpoint ? ZONE_POD : ZONE_HOST;
	scratch->plan.reverse_input = endpoint ? endpoint->ifindex : 0;
	__builtin_memset(&scratch->forward, 0, sizeof(scratch->forward));
	scratch->forward.saddr = scratch->plan.saddr;
	scratch->forward.daddr = scratch->plan.daddr;
	return route_find(skb, &scratch->forward) ? -DROP_NO_ROUTE : DSR_WRAPPED_NEW;
}

/*
 * Takes the outer header off a packet that another node has dispatched, and opens its flow. Returns
 * the verdict, VERDICT_NONE, or DSR_TAKEN: the walk goes on with the packet as it is now, in
 * @packet's zone, and with @found where that is not NULL.
 */
static __always_inline int dsr_unwrap(struct __sk_buff *skb, struct packet *packet,
				      struct flow **found, __u32 now, const bool v6)
{
	const __u32 outer = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	struct scratch *scratch = scratch_get();
	struct flow *flow = NULL;
	const __u8 *ip;
	int what, why;

	/* It carries no tag: who does not send such packets need not trust addresses. */
	if (CONFIG.dsr_dispatch != DSR_IPIP && !CONFIG.dsr_plain_in)
		return VERDICT_NONE;
	if (!scratch || !packet_pull(skb, ETH_HLEN + outer))
		return VERDICT_NONE;
	ip = packet_data(skb) + ETH_HLEN;
	if (packet_data(skb) + ETH_HLEN + outer > packet_end(skb))
		return VERDICT_NONE;
	if (v6 ? ip[offsetof(struct ipv6hdr, nexthdr)] != IPPROTO_IPV6
	       : ip[offsetof(struct iphdr, protocol)] != IPPROTO_IPIP)
		return VERDICT_NONE;

	what = dsr_wrapped(skb, v6);
	if (what == DSR_WRAPPED_SO) {
		flow = flow_find(&scratch->packet.key, now);
		if (flow && packet_opens(&scratch->packet) && flow_closing(flow))
			flow = NULL;
		if (!flow)
			what = dsr_wrapped_first(skb);
	}
	if (what == DSR_WRAPPED_NOT)
		return VERDICT_NONE;
	why = what < 0 ? -what : what == DSR_WRAPPED_NEW ? flow_open(skb) : 0;
	if (why) {
		scratch_tell(packet);
		return verdict_drop(why);
	}
	if (bpf_skb_adjust_room(skb, -(__s32)outer, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return verdict_drop(DROP_REWRITE);
	packet->key.zone = what == DSR_WRAPPED_OWN ? ZONE_WIRE : ZONE_OVERLAY;
	*found = flow;
	return DSR_TAKEN;
}
