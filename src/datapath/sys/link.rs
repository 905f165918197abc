// SPDX-License-Identifier: Apache-2.0
//! Links: what ties a program to a device or a cgroup. `libbpf-rs` has none for TCX.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;

use libbpf_rs::libbpf_sys as raw;

use super::{check, check_fd};

/// What a link holds on to. A zero means that it is gone and the link is dead: no live one has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) enum LinkTarget {
    /// ifindex of a TCX link.
    Tcx(u32),
    /// ifindex of an XDP link.
    Xdp(u32),
    /// Inode number of the cgroup's directory.
    Cgroup(u64),
    Other,
}

/// Attaches `program`. `target` is an ifindex, or the descriptor of a cgroup directory.
pub(in crate::datapath) fn link_create(
    program: BorrowedFd<'_>,
    target: i32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let opts = raw::bpf_link_create_opts {
        sz: size_of::<raw::bpf_link_create_opts>() as raw::size_t,
        flags,
        ..Default::default()
    };
    // SAFETY: `opts` says its own size and outlives the call.
    check_fd(unsafe { raw::bpf_link_create(program.as_raw_fd(), target, attach_type, &opts) })
}

/// How programs are attached to the driver hook of a device, `XDP_ATTACHED_*`.
pub(in crate::datapath) fn xdp_attached(ifindex: u32) -> io::Result<u32> {
    let mut opts = raw::bpf_xdp_query_opts {
        sz: size_of::<raw::bpf_xdp_query_opts>() as raw::size_t,
        ..Default::default()
    };
    // SAFETY: `opts` says its own size and outlives the call.
    check(unsafe { raw::bpf_xdp_query(ifindex as i32, 0, &mut opts) })?;
    Ok(u32::from(opts.attach_mode))
}

/// Puts another program under a live link; packets meet either the old or the new one.
pub(in crate::datapath) fn link_update(
    link: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    // SAFETY: null options are allowed.
    check(unsafe { raw::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), ptr::null()) })?;
    Ok(())
}

/// Takes the program off now. Letting the last reference go would do so only some time later.
pub(in crate::datapath) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { raw::bpf_link_detach(link.as_raw_fd()) })?;
    Ok(())
}

/// What the link holds on to, and the id of its program.
pub(in crate::datapath) fn link_info(link: BorrowedFd<'_>) -> io::Result<(LinkTarget, u32)> {
    let mut info = raw::bpf_link_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` is valid for `size` bytes.
    check(unsafe {
        raw::bpf_link_get_info_by_fd(link.as_raw_fd(), ptr::from_mut(&mut info), &mut size)
    })?;
    // SAFETY: the kernel filled the member that belongs to the type, and zeroes are valid in all.
    let target = unsafe {
        match info.type_ {
            raw::BPF_LINK_TYPE_TCX => LinkTarget::Tcx(info.__bindgen_anon_1.tcx.ifindex),
            raw::BPF_LINK_TYPE_XDP => LinkTarget::Xdp(info.__bindgen_anon_1.xdp.ifindex),
            raw::BPF_LINK_TYPE_CGROUP => LinkTarget::Cgroup(info.__bindgen_anon_1.cgroup.cgroup_id),
            _ => LinkTarget::Other,
        }
    };
    Ok((target, info.prog_id))
}
