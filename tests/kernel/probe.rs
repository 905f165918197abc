// SPDX-License-Identifier: Apache-2.0
//! The probe against the running kernel.

use culvert::datapath::probe;

use crate::support::pins::PinRoot;

#[test]
fn what_this_kernel_was_seen_to_have_is_found() {
    let root = PinRoot::new();
    let probe = probe::run(root.path());
    // The oldest kernel of the matrix has all of these.
    let everywhere = [
        "btf",
        "bpffs",
        "tc programs",
        "xdp programs",
        "xdp links",
        "socket address programs",
        "socket storage",
        "getpeername hook",
        "socket release hook",
        "fib lookup",
        "redirect_neigh",
        "redirect_peer",
        "ring buffer",
        "batched maps",
    ];
    let missing: Vec<_> = probe.missing(&everywhere).iter().map(|each| &each.detail).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(probe.programs_off().is_empty());

    // A trial that always says yes would be no trial: releases and features must agree.
    let release = version(&probe.kernel);
    for (name, since) in [
        ("coarse clock", (5, 11)),
        ("fetching atomics", (5, 12)),
        ("check_mtu", (5, 12)),
        ("netns cookie of a socket", (5, 14)),
        ("managed neighbours", (5, 16)),
        ("bpf_loop", (5, 17)),
        ("socket destruction", (6, 5)),
        ("tcx", (6, 6)),
        ("fib lookup source", (6, 7)),
    ] {
        assert_eq!(probe.has(name), release >= since, "{name} on {}", probe.kernel);
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}
