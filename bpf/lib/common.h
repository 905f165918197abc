/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The includes every program needs, and the uapi constants that BTF does not carry. */
#pragma once

#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* What a program is called with; bpf_xdp has another before it includes this. Steps that both need
 * are written for CTX. */
#ifndef CTX
#define CTX struct __sk_buff
#define ctx_input(ctx) ((ctx)->ifindex)
#endif

/* Whether an object's programs meet packets of the wire: bpf_host says so before it includes. */
#ifndef FROM_WIRE
#define FROM_WIRE 0
#endif

#define AF_INET 2
#define AF_INET6 10

#define ETH_ALEN 6
#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define ETH_P_IPV6 0x86dd

#define IPPROTO_FRAGMENT 44
#define IPPROTO_ICMPV6 58

/*
 * What we do not finish goes to the next program on the device, and from the last one up the stack:
 * TCX_NEXT, and for a clsact filter the same. TC_ACT_OK would end the chain in our favour.
 */
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2
#define TC_ACT_REDIRECT 7

#define PACKET_HOST 0

#define EPERM 1
#define ENOENT 2
#define EBUSY 16
#define EEXIST 17
#define EADDRINUSE 98
#define EHOSTUNREACH 113
#define ECONNREFUSED 111
