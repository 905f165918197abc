/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets to an address of a service that ask for none of its ports.
 *
 * Such an address lives nowhere but in our tables, so nobody behind us answers for it: what is not
 * answered here would travel in circles between this node and its router. Addresses that the node
 * owns are its stack's, and those of other classes' load balancers are not ours to refuse.
 */
#pragma once

#include "owned.h"
#include "reject.h"
#include "vip.h"

#define ICMP_ECHO 8
#define ICMP_ECHO_REPLY 0
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129

struct echo {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be16 id;
	__be16 sequence;
};

/* Turns an echo request into its answer in place. Returns the verdict, or VERDICT_NONE. */
static __always_inline int unserved_echo(struct __sk_buff *skb, const struct packet *packet,
					 const bool v6)
{
	const __u16 before = v6 ? ICMPV6_ECHO : ICMP_ECHO;
	const __u16 after = v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY;
	const __u32 offset = ETH_HLEN + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	struct echo *echo;
	void *data, *end;

	if (packet->key.proto != (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) || packet->fragment ||
	    packet->l4_off != offset || !packet_pull(skb, offset + sizeof(*echo)))
		return VERDICT_NONE;
	data = packet_data(skb);
	end = packet_end(skb);
	echo = data + offset;
	if ((void *)(echo + 1) > end || echo->type != before || echo->code)
		return VERDICT_NONE;

	/* The checksum makes up for the type, and addresses that trade places sum to the same. */
	echo->type = after;
	echo->check = ~rewrite_fold((__u64)(__u16)~echo->check + (__u16)~before + after);
	if (v6) {
		struct ipv6hdr *ip = data + ETH_HLEN;
		const __u16 hop = *(__u16 *)&ip->nexthdr;

		ip->hop_limit = REJECT_TTL;
		__builtin_memcpy(&ip->saddr, &packet->key.daddr, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &packet->key.saddr, sizeof(ip->daddr));
		bpf_csum_update(skb, (__u16)~hop + (__u32) * (__u16 *)&ip->nexthdr);
	} else {
		struct iphdr *ip = data + ETH_HLEN;

		rewrite_v4_header(ip, 0, packet->ttl - REJECT_TTL);
		ip->saddr = packet->key.daddr.w[3];
		ip->daddr = packet->key.saddr.w[3];
	}
	if (reject_swap_macs(skb))
		return verdict_drop(DROP_REWRITE);
	skb->tc_index = OUTPUT_FINISHED;
	return verdict(OUTCOME_ANSWERED, bpf_redirect(skb->ifindex, 0));
}

/* What `vips` has for @addr, or NULL where it is others' to answer for: its owner's, or a class's.
 */
static __always_inline const struct vip *unserved_vip(const struct addr *addr)
{
	const struct vip *vip = vip_lookup(addr);

	/* No flag: a hostIP, which only its owner answers for. */
	if (!vip || !vip->flags || (vip->flags & VIP_FOREIGN) || owned_lookup(addr))
		return NULL;
	return vip;
}

/*
 * What becomes of a packet from the wire to a ClusterIP. Without NodePorts, what comes from outside
 * is somebody else's, who may serve this too: kube-proxy does. Returns the verdict.
 */
static __always_inline int unserved_cluster_ip(void)
{
	return CONFIG.nodeport ? verdict_drop(DROP_CLUSTER_IP)
			       : verdict(OUTCOME_STACK, TC_ACT_UNSPEC);
}

/*
 * Answers or refuses scratch->packet, whose destination is in `vips` and no frontend. @ports: it
 * has some. Returns the verdict, or VERDICT_NONE: it is left alone.
 */
__noinline int unserved(struct __sk_buff *skb, __u32 ports)
{
	struct scratch *scratch = scratch_get();
	const struct packet *packet;
	const struct vip *vip;
	bool from_pod;
	int done;

	if (!scratch)
		return VERDICT_NONE;
	packet = &scratch->packet;
	vip = unserved_vip(&packet->key.daddr);
	if (!vip)
		return VERDICT_NONE;
	from_pod = packet->key.zone == ZONE_POD;
	if (!from_pod && !(vip->flags & VIP_EXTERNAL))
		return unserved_cluster_ip();
	/* Pods are not cut off from what others serve on the address. */
	if (from_pod && !(vip->flags & VIP_CLUSTER_IP) && (ports || !CONFIG.external_ips_inside))
		return VERDICT_NONE;
	if (ports)
		return reject_send(skb, REJECT_UNKNOWN_PORT, 0);
	done = addr_is_v4(&packet->key.saddr) ? unserved_echo(skb, packet, false)
					      : unserved_echo(skb, packet, true);
	if (done != VERDICT_NONE || (from_pod && !(vip->flags & VIP_CLUSTER_IP)))
		return done;
	return verdict_drop(packet->fragment ? DROP_FRAGMENT : DROP_UNKNOWN_PORT);
}

/*
 * Refuses what the host's own stack opens towards a service that has no endpoint, or towards a
 * cluster IP's unknown port. The socket hook has done so already, except where it cannot name an
 * error (below Linux 6.1) or was not asked. Returns the verdict, or VERDICT_NONE.
 */
static __always_inline int unserved_from_host(struct __sk_buff *skb, const struct packet *packet)
{
	const struct service *service;
	const struct vip *vip;

	if (!packet_opens(packet))
		return VERDICT_NONE;
	vip = unserved_vip(&packet->key.daddr);
	if (!vip)
		return VERDICT_NONE;
	service = service_lookup(&packet->key.daddr, packet->key.dport, packet->key.proto);
	if (!service)
		return vip->flags & VIP_CLUSTER_IP ? reject(skb, packet, REJECT_UNKNOWN_PORT, 0)
						   : VERDICT_NONE;
	if (service->inside.count || (service->flags & SERVICE_HAS_ENDPOINTS) ||
	    (service->kind == SERVICE_EXTERNAL_IP && !CONFIG.external_ips_inside))
		return VERDICT_NONE;
	return reject(skb, packet, REJECT_NO_ENDPOINTS, 0);
}
