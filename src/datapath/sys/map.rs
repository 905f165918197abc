// SPDX-License-Identifier: Apache-2.0
//! Map elements, one at a time and in batches.
//!
//! Callers pass byte slices; every function checks them against the sizes it is told, so that the
//! kernel never reads or writes past their end.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use libbpf_rs::libbpf_sys as raw;

use super::check;

/// Bytes of one key and of one value as the system call moves them.
#[derive(Clone, Copy, Debug)]
pub(in crate::datapath) struct Walk {
    pub(in crate::datapath) key: usize,
    pub(in crate::datapath) value: usize,
}

fn opts(elem_flags: u64) -> raw::bpf_map_batch_opts {
    raw::bpf_map_batch_opts {
        sz: size_of::<raw::bpf_map_batch_opts>() as raw::size_t,
        elem_flags,
        ..Default::default()
    }
}

/// Reads the kernel's description of a map.
pub(in crate::datapath) fn map_info(fd: BorrowedFd<'_>) -> io::Result<raw::bpf_map_info> {
    let mut info = raw::bpf_map_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` is valid for `size` bytes.
    check(unsafe {
        raw::bpf_map_get_info_by_fd(fd.as_raw_fd(), ptr::from_mut(&mut info), &mut size)
    })?;
    Ok(info)
}

/// Fills `value`, which must be as long as the map's value times the CPUs of a per-CPU map.
/// False when there is no such key.
pub(in crate::datapath) fn lookup(
    fd: BorrowedFd<'_>,
    sizes: Walk,
    key: &[u8],
    value: &mut [u8],
) -> io::Result<bool> {
    fill(raw::bpf_map_lookup_elem, fd, sizes, key, value)
}

/// As [`lookup`], and deletes the entry in the same step. Linux 5.14; before that it is [`refused`].
pub(in crate::datapath) fn take(
    fd: BorrowedFd<'_>,
    sizes: Walk,
    key: &[u8],
    value: &mut [u8],
) -> io::Result<bool> {
    fill(raw::bpf_map_lookup_and_delete_elem, fd, sizes, key, value)
}

/// `call` reads the key and writes the value, each as long as the map's.
fn fill(
    call: unsafe extern "C" fn(i32, *const c_void, *mut c_void) -> i32,
    fd: BorrowedFd<'_>,
    sizes: Walk,
    key: &[u8],
    value: &mut [u8],
) -> io::Result<bool> {
    assert!(key.len() == sizes.key && value.len() == sizes.value, "sizes were checked at open");
    // SAFETY: both buffers have the lengths the kernel uses, as asserted.
    found(unsafe { call(fd.as_raw_fd(), key.as_ptr().cast(), value.as_mut_ptr().cast()) })
}

/// `flags`: `BPF_ANY`, `BPF_NOEXIST` or `BPF_EXIST`.
pub(in crate::datapath) fn update(
    fd: BorrowedFd<'_>,
    sizes: Walk,
    key: &[u8],
    value: &[u8],
    flags: u64,
) -> io::Result<()> {
    assert!(key.len() == sizes.key && value.len() == sizes.value, "sizes were checked at open");
    // SAFETY: both buffers have the lengths the kernel reads, as asserted.
    check(unsafe {
        raw::bpf_map_update_elem(fd.as_raw_fd(), key.as_ptr().cast(), value.as_ptr().cast(), flags)
    })?;
    Ok(())
}

/// False when there was no such key.
pub(in crate::datapath) fn delete(fd: BorrowedFd<'_>, sizes: Walk, key: &[u8]) -> io::Result<bool> {
    assert!(key.len() == sizes.key, "sizes were checked at open");
    // SAFETY: the key has the length the kernel reads, as asserted.
    found(unsafe { raw::bpf_map_delete_elem(fd.as_raw_fd(), key.as_ptr().cast()) })
}

/// Writes the key after `key` (the first one for `None`) into `next`. False at the end.
pub(in crate::datapath) fn next_key(
    fd: BorrowedFd<'_>,
    sizes: Walk,
    key: Option<&[u8]>,
    next: &mut [u8],
) -> io::Result<bool> {
    assert!(key.is_none_or(|key| key.len() == sizes.key) && next.len() == sizes.key);
    let key = key.map_or(ptr::null(), |key| key.as_ptr());
    // SAFETY: a null key asks for the first; otherwise both have the asserted length.
    found(unsafe {
        raw::bpf_map_get_next_key(fd.as_raw_fd(), key.cast(), next.as_mut_ptr().cast())
    })
}

fn found(ret: i32) -> io::Result<bool> {
    match check(ret) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes entries in order. On failure the number says how many were written before it.
pub(in crate::datapath) fn update_batch(
    fd: BorrowedFd<'_>,
    sizes: Walk,
    keys: &[u8],
    values: &[u8],
    flags: u64,
) -> Result<(), (usize, io::Error)> {
    let count = keys.len() / sizes.key;
    assert!(keys.len() == count * sizes.key && values.len() == count * sizes.value);
    let mut done = count as u32;
    // SAFETY: the kernel reads `done` keys and values, which is what the slices hold.
    let ret = unsafe {
        raw::bpf_map_update_batch(
            fd.as_raw_fd(),
            keys.as_ptr().cast(),
            values.as_ptr().cast(),
            &mut done,
            &opts(flags),
        )
    };
    check(ret).map(drop).map_err(|error| (progress(done, count, &error), error))
}

/// Deletes keys in order. On failure the number says how many were deleted before it.
pub(in crate::datapath) fn delete_batch(
    fd: BorrowedFd<'_>,
    sizes: Walk,
    keys: &[u8],
) -> Result<(), (usize, io::Error)> {
    let count = keys.len() / sizes.key;
    assert!(keys.len() == count * sizes.key);
    let mut done = count as u32;
    // SAFETY: the kernel reads `done` keys, which is what the slice holds.
    let ret = unsafe {
        raw::bpf_map_delete_batch(fd.as_raw_fd(), keys.as_ptr().cast(), &mut done, &opts(0))
    };
    check(ret).map(drop).map_err(|error| (progress(done, count, &error), error))
}

/// A kernel that refuses the command outright leaves the count as it was, which would read as
/// "everything done": nothing was.
fn progress(done: u32, count: usize, error: &io::Error) -> usize {
    let done = done as usize;
    if done >= count || refused(error) { 0 } else { done }
}

/// The map type or the kernel has no such operation.
pub(in crate::datapath) fn refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(super::ENOTSUPP | libc::EINVAL | libc::EOPNOTSUPP))
}

/// Reads the next entries. `cursor` is empty to start, and long enough for any key afterwards.
///
/// Returns how many entries were read and whether the map ended with them. Both cursors are kept
/// apart, as the kernel writes the new one before it has finished with the old.
pub(in crate::datapath) fn lookup_batch(
    fd: BorrowedFd<'_>,
    sizes: Walk,
    cursor: &mut Vec<u8>,
    keys: &mut [u8],
    values: &mut [u8],
) -> io::Result<(usize, bool)> {
    let count = keys.len() / sizes.key;
    assert!(keys.len() == count * sizes.key && values.len() == count * sizes.value);
    // Hash maps want four bytes whatever the key; the others a key.
    let width = sizes.key.max(4);
    assert!(cursor.is_empty() || cursor.len() == width, "the cursor came from this function");
    let mut next = vec![0; width];
    let before = if cursor.is_empty() { ptr::null_mut() } else { cursor.as_mut_ptr() };
    let mut done = count as u32;
    // SAFETY: the kernel writes at most `done` keys and values, which is what the slices hold, and
    // the cursors have the width of the widest that any map type uses.
    let ret = unsafe {
        raw::bpf_map_lookup_batch(
            fd.as_raw_fd(),
            before.cast(),
            next.as_mut_ptr().cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &mut done,
            &opts(0),
        )
    };
    let ended = match check(ret) {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    *cursor = next;
    Ok((done as usize, ended))
}
