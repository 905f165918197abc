// SPDX-License-Identifier: Apache-2.0
//! The features, who needs them, and what is done without.

use std::path::Path;

use libbpf_rs::libbpf_sys as raw;

use super::Feature;
use super::btf::Kernel;
use super::checks::{self as check, Answer};
use super::link;

/// What checks look at besides the kernel itself.
pub(super) struct Context<'a> {
    pub(super) bpf_root: &'a Path,
    pub(super) btf: Kernel,
}

struct Entry {
    name: &'static str,
    check: fn(&Context<'_>) -> Answer,
    needed_by: &'static str,
    instead: &'static str,
}

/// Programs that are left out when a feature is absent.
pub(super) const PROGRAMS: &[(&str, &[&str])] = &[
    ("getpeername hook", &["getpeername4", "getpeername6"]),
    ("socket release hook", &["sock_release"]),
];

const NOTHING: &str = "nothing: Culvert cannot run";
const NO_SOCKET_LB: &str = "services are translated packet by packet";

#[rustfmt::skip]
const TABLE: &[Entry] = &[
    Entry { name: "btf", check: |on| on.btf.answer(),
        needed_by: "loading any program", instead: NOTHING },
    Entry { name: "bpffs", check: |on| check::bpffs(on.bpf_root),
        needed_by: "keeping maps and programs across restarts", instead: "the agent mounts one" },
    Entry { name: "cgroup2", check: |_| check::cgroup2(),
        needed_by: "socket load balancing", instead: NO_SOCKET_LB },
    Entry { name: "tc programs", check: |_| check::program(raw::BPF_PROG_TYPE_SCHED_CLS),
        needed_by: "pods and services", instead: NOTHING },
    Entry { name: "xdp programs", check: |_| check::program(raw::BPF_PROG_TYPE_XDP),
        needed_by: "acceleration in the driver", instead: "tc" },
    Entry { name: "socket address programs", check: |_| check::program(raw::BPF_PROG_TYPE_CGROUP_SOCK_ADDR),
        needed_by: "socket load balancing", instead: NO_SOCKET_LB },
    Entry { name: "socket storage", check: |_| check::helper(raw::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, raw::BPF_FUNC_sk_storage_get),
        needed_by: "socket load balancing", instead: NO_SOCKET_LB },
    Entry { name: "getpeername hook", check: |_| check::attach_type(raw::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, raw::BPF_CGROUP_INET4_GETPEERNAME),
        needed_by: "getpeername() showing the service", instead: "it shows the backend" },
    Entry { name: "socket release hook", check: |_| check::attach_type(raw::BPF_PROG_TYPE_CGROUP_SOCK, raw::BPF_CGROUP_INET_SOCK_RELEASE),
        needed_by: "counting closed sockets", instead: "they are not counted" },
    Entry { name: "set_retval", check: |_| check::helper(raw::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, raw::BPF_FUNC_set_retval),
        needed_by: "connect() to a service without endpoints failing with ECONNREFUSED",
        instead: "tc answers pods with RST or port unreachable; the host's own calls time out" },
    Entry { name: "netns cookie in socket hooks", check: |_| check::helper(raw::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, raw::BPF_FUNC_get_netns_cookie),
        needed_by: "telling the host's sockets from pods'", instead: NO_SOCKET_LB },
    Entry { name: "netns cookie of a socket", check: |_| check::netns_cookie(),
        needed_by: "socketLB.hostNamespaceOnly, loopback NodePorts, nodePort.bindProtection",
        instead: "the initial network namespace is taken for the host's" },
    Entry { name: "netns cookie in tc", check: |_| check::helper(raw::BPF_PROG_TYPE_SCHED_CLS, raw::BPF_FUNC_get_netns_cookie),
        needed_by: "affinity shared by sockets and packets", instead: "the endpoint map tells the pod" },
    Entry { name: "socket destruction", check: |on| on.btf.function("bpf_sock_destroy"),
        needed_by: "ending connected UDP sockets whose backend left", instead: "SOCK_DESTROY of sock_diag" },
    Entry { name: "socket storage iterator", check: |on| on.btf.structure("bpf_iter__bpf_sk_storage_map"),
        needed_by: "finding sockets whose backend left", instead: "sock_diag in each known namespace" },
    Entry { name: "tcx", check: |_| check::tcx(),
        needed_by: "attaching to devices with links", instead: "clsact filters, replaced in place" },
    Entry { name: "xdp links", check: |on| on.btf.function("bpf_xdp_link_attach"),
        needed_by: "acceleration in the driver", instead: "tc" },
    Entry { name: "xdp frags", check: |_| check::helper(raw::BPF_PROG_TYPE_XDP, raw::BPF_FUNC_xdp_get_buff_len),
        needed_by: "acceleration in the driver with a large MTU", instead: "tc on such devices" },
    Entry { name: "fib lookup", check: |_| check::helper(raw::BPF_PROG_TYPE_SCHED_CLS, raw::BPF_FUNC_fib_lookup),
        needed_by: "host routing in BPF", instead: "the host's stack routes" },
    Entry { name: "fib lookup source", check: |on| on.btf.enumerator("BPF_FIB_LOOKUP_SRC"),
        needed_by: "source address by route", instead: "the device's preferred address" },
    Entry { name: "redirect_neigh", check: |_| check::helper(raw::BPF_PROG_TYPE_SCHED_CLS, raw::BPF_FUNC_redirect_neigh),
        needed_by: "host routing in BPF", instead: "the host's stack routes" },
    Entry { name: "redirect_peer", check: |_| check::helper(raw::BPF_PROG_TYPE_SCHED_CLS, raw::BPF_FUNC_redirect_peer),
        needed_by: "delivery straight into pods", instead: "redirect to the host side of the veth pair" },
    Entry { name: "check_mtu", check: |_| check::helper(raw::BPF_PROG_TYPE_SCHED_CLS, raw::BPF_FUNC_check_mtu),
        needed_by: "exact size limits on forwarding", instead: "the device's MTU from the agent" },
    Entry { name: "managed neighbours", check: |on| on.btf.member("neighbour", "managed_list"),
        needed_by: "next hops that never go stale", instead: "the agent probes them" },
    Entry { name: "coarse clock", check: |_| check::helper(raw::BPF_PROG_TYPE_SCHED_CLS, raw::BPF_FUNC_ktime_get_coarse_ns),
        needed_by: "cheap flow ages", instead: "the exact clock" },
    Entry { name: "bpf_loop", check: |_| check::helper(raw::BPF_PROG_TYPE_SCHED_CLS, raw::BPF_FUNC_loop),
        needed_by: "long searches for a free port", instead: "unrolled, shorter searches" },
    Entry { name: "fetching atomics", check: |_| check::atomics(),
        needed_by: "counters shared by CPUs", instead: "per-CPU ones" },
    Entry { name: "ring buffer", check: |_| check::map(raw::BPF_MAP_TYPE_RINGBUF),
        needed_by: "`culvert monitor`", instead: NOTHING },
    Entry { name: "geneve", check: |_| link::kind("geneve"),
        needed_by: "loadBalancer.dsrDispatch: geneve", instead: "nothing: choose `opt` or `ipip`" },
    Entry { name: "batched maps", check: |_| check::batches(),
        needed_by: "fast synchronisation and aging", instead: "one system call an entry" },
];

pub(super) fn features(bpf_root: &Path) -> Vec<Feature> {
    let on = Context { bpf_root, btf: Kernel::read() };
    TABLE
        .iter()
        .map(|entry| {
            let Answer { present, detail } = (entry.check)(&on);
            Feature {
                name: entry.name,
                present,
                detail,
                needed_by: entry.needed_by,
                instead: entry.instead,
            }
        })
        .collect()
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.name)
}
