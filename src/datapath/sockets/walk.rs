// SPDX-License-Identifier: Apache-2.0
//! Runs a BPF iterator once and collects what its program wrote.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libbpf_rs::libbpf_sys;

/// One whole walk of the iterator `link`, in the network namespace of the calling thread.
pub(super) fn read(link: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    // SAFETY: the descriptor is open for the whole call, which takes nothing else.
    let fd = unsafe { libbpf_sys::bpf_iter_create(link.as_raw_fd()) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel just made this descriptor for us.
    let mut walk = File::from(unsafe { OwnedFd::from_raw_fd(fd) });

    let mut bytes = Vec::new();
    loop {
        match walk.read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            // A million objects without one record: the kernel takes a breath and goes on.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
