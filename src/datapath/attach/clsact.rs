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
    by_libbpf(|| {
        let mut hook = hook(program, ifindex, side);
        // The qdisc may be there already, ours or somebody else's; both will do.
        hook.create()?;
        hook.attach()
    })
}

/// What libbpf logs of its failure says more than its error.
fn by_libbpf(attach: impl FnOnce() -> libbpf_rs::Result<TcHook>) -> io::Result<()> {
    let (result, said) = log::capture(attach);
    result.map(drop).map_err(|error| io::Error::other(format!("{error:#}: {}", said.trim())))
}

/// One of our filters: where it is, and the name of its program.
#[derive(Debug)]
pub(super) struct Filter {
    ifindex: i32,
    side: Side,
    pub(super) program: String,
}

impl Filter {
    /// Puts another program in its place.
    pub(super) fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        by_libbpf(|| hook(program, self.ifindex, self.side).attach())
    }
}

/// Our filters on a device.
fn filters(ifindex: i32) -> Vec<Filter> {
    let (found, _) = log::capture(|| {
        [Side::Ingress, Side::Egress]
            .into_iter()
            .filter_map(|side| {
                // Querying looks at no program, but the builder wants a descriptor.
                let stdin = io::stdin();
                let id = hook(stdin.as_fd(), ifindex, side).query().ok()?;
                let program = sys::program_name(id).ok()?;
                OURS.contains(&program.as_str()).then_some(Filter { ifindex, side, program })
            })
            .collect()
    });
    found
}

/// Our filters on all devices of this network namespace.
pub(super) fn all() -> Vec<Filter> {
    let devices = nix::net::if_::if_nameindex();
    devices.iter().flatten().flat_map(|device| filters(device.index() as i32)).collect()
}

/// Removes our filters from a device, both directions. True when there were any.
///
/// The qdisc stays: somebody else's filters may be on it, and an empty one does nothing.
pub(super) fn remove(ifindex: i32) -> bool {
    let ours = filters(ifindex);
    let (removed, _) = log::capture(|| {
        let stdin = io::stdin();
        let detach = |each: &Filter| hook(stdin.as_fd(), ifindex, each.side).detach().is_ok();
        ours.iter().filter(|each| detach(each)).count()
    });
    removed > 0
}
