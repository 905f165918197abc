// SPDX-License-Identifier: Apache-2.0
//! Safe wrappers over the `bpf(2)` calls that `libbpf-rs` lacks or gets wrong.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use libbpf_rs::libbpf_sys as raw;

mod btf;
mod link;
mod map;
mod probe;
mod window;

pub(super) use btf::{kernel_btf, object_btf, object_types};
pub(super) use link::{LinkTarget, link_create, link_detach, link_info, link_update, xdp_attached};
pub(super) use map::{
    Walk, delete, delete_batch, lookup, lookup_batch, map_info, next_key, refused, take, update,
    update_batch,
};
pub(super) use probe::{has_helper, has_map_type, has_program_type, load_trivial};
pub(super) use window::Window;

/// The kernel's internal "not supported", which leaks to user space from batch operations.
pub(super) const ENOTSUPP: i32 = 524;

/// libbpf answers a negative errno, or something not negative.
fn check(ret: i32) -> io::Result<i32> {
    if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(ret) }
}

fn check_fd(ret: i32) -> io::Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: a call that returns a new descriptor gave it to us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Opens a pinned map, program or link.
pub(super) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path is a C string that outlives the call.
    check_fd(unsafe { raw::bpf_obj_get(path.as_ptr()) })
}

/// Pins a map, program or link. The path must be on a bpffs and have no dot in its last part.
pub(super) fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is a C string that outlives the call.
    check(unsafe { raw::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) })?;
    Ok(())
}

/// The kernel's name, truncated to 15 characters, of the program with this id.
pub(super) fn program_name(id: u32) -> io::Result<String> {
    // SAFETY: takes no pointer.
    let fd = check_fd(unsafe { raw::bpf_prog_get_fd_by_id(id) })?;
    let mut info = raw::bpf_prog_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` is valid for `size` bytes.
    check(unsafe {
        raw::bpf_prog_get_info_by_fd(fd.as_raw_fd(), ptr::from_mut(&mut info), &mut size)
    })?;
    let name: Vec<u8> = info.name.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}
