// SPDX-License-Identifier: Apache-2.0
//! Filters on a clsact qdisc, where the kernel has no TCX links (before 6.6).
//!
//! They outlive the agent by themselves. Handle and priority are always the same, so that a new
//! agent's filter takes the place of the old one's in one step.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder};

use super::Side;
use crate::datapath::{log, sys};

/// Ours among the filters of a device.
const HANDLE: u32 = 0xc0;
const PRIORITY: u32 = 1;

const OURS: &[&str] =
    &["from_container", "to_container", "from_netdev", "to_netdev", "from_overlay", "to_overlay"];

fn hook(program: BorrowedFd<'_>, ifindex: i32, side: Side) -> TcHook {
    let mut builder = TcHookBuilder::new(program);
    builder.ifindex(ifindex).replace(true).handle(HANDLE).priority(PRIORITY);
    builder.hook(match side {
        Side::Ingress => TC_INGRESS,
        Side::Egress => TC_EGRESS,
    })
}

/// Attaches, or replaces what was attached here before.
pub(super) fn attach(program: BorrowedFd<'_>, ifindex: i32, side: Side) -> io::Result<()> {
    let (result, said) = log::capture(|| {
        let mut hook = hook(program, ifindex, side);
        // The qdisc may be there already, ours or somebody else's; both will do.
        hook.create()?;
        hook.attach()
    });
    result.map(drop).map_err(|error| io::Error::other(format!("{error:#}: {}", said.trim())))
}

/// Removes our filters from a device, both directions. True when there were any.
///
/// The qdisc stays: somebody else's filters may be on it, and an empty one does nothing.
pub(super) fn remove(ifindex: i32) -> bool {
    let (removed, _) = log::capture(|| {
        [Side::Ingress, Side::Egress].map(|side| {
            // Querying and detaching look at no program, but the builder wants a descriptor.
            let stdin = io::stdin();
            let mut hook = hook(stdin.as_fd(), ifindex, side);
            let ours = hook
                .query()
                .ok()
                .and_then(|id| sys::program_name(id).ok())
                .is_some_and(|name| OURS.contains(&name.as_str()));
            ours && hook.detach().is_ok()
        })
    });
    removed.contains(&true)
}
