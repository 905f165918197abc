// SPDX-License-Identifier: Apache-2.0
//! The datapath against the running kernel. Needs root.
//!
//! Every test has network namespaces, pins and cgroups of its own and leaves nothing behind.

#![allow(clippy::unwrap_used)] // A test says so when it cannot go on.

#[path = "support"]
mod support {
    pub mod cgroup;
    pub mod dsr;
    pub mod interrupt;
    pub mod netns;
    pub mod node;
    pub mod objects;
    pub mod packet;
    pub mod pins;
    pub mod sockets;
    pub mod tunnelled;
    pub mod variant;
}

#[path = "../bench/packets"]
#[expect(dead_code, reason = "shared with the bench, of which the tests need a part")]
mod raw_program {
    pub mod insn;
    pub mod load;
    pub mod raw;
}

#[path = "kernel"]
mod kernel {
    mod affinity;
    mod aging;
    mod at_once;
    mod attach;
    mod budget;
    mod busy;
    mod checksum;
    mod cli;
    mod cni;
    mod datapath;
    mod direct_wire;
    mod drop_events;
    mod dsr;
    mod dsr_apart;
    mod dsr_apart_wire;
    mod dsr_end;
    mod dsr_flood;
    mod dsr_geneve;
    mod dsr_icmp;
    mod dsr_ipip;
    mod dsr_join;
    mod dsr_keys;
    mod dsr_mtu;
    mod dsr_outer_error;
    mod dsr_plain;
    mod dsr_segments;
    mod dsr_wire;
    mod dsr_wires;
    mod dsr_xdp;
    mod events;
    mod flow_expired;
    mod flow_life;
    mod flow_writes;
    mod fragments;
    mod fragments_wire;
    mod full;
    mod handover;
    mod host;
    mod host_flow;
    mod host_flow_end;
    mod icmp;
    mod lookups;
    mod lxc;
    mod lxc_neighbour;
    mod maglev;
    mod maglev_agent;
    mod martian;
    mod netlink;
    mod netlink_local;
    mod next_hop;
    mod overlay;
    mod probe;
    mod sctp;
    mod serve;
    mod sock;
    mod sock_affinity;
    mod sock_bind;
    mod sock_destroy;
    mod sock_policy;
    mod sock_record;
    mod sock_storm;
    mod sock_udp;
    mod storm;
    mod sync;
    mod trace_events;
    mod ttl;
    mod uplinks;
    mod vips;
    mod wire;
    mod wire_vlan;
    mod xdp;
    mod xdp_attach;
    mod xdp_devices;
    mod xdp_up;
    mod xdp_vlan;
    mod xdp_vlan_wire;
    mod xdp_wire;
}
