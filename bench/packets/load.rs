// SPDX-License-Identifier: Apache-2.0
//! Loading a program that is written instruction by instruction.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Result, ensure};
use libbpf_rs::libbpf_sys as sys;

use super::insn::Assembler;

pub fn load_as(
    kind: sys::bpf_prog_type,
    attached: sys::bpf_attach_type,
    flags: u32,
    name: &str,
    code: &Assembler,
) -> Result<OwnedFd> {
    let name = CString::new(name)?;
    let instructions = code.instructions();
    let mut options = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as u64,
        prog_flags: flags,
        expected_attach_type: attached,
        ..Default::default()
    };
    // SAFETY: the strings, the options and the instructions live through the call, and their count is theirs;
    // an instruction is laid out as the kernel's.
    let fd = unsafe {
        sys::bpf_prog_load(
            kind,
            name.as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr().cast(),
            instructions.len() as u64,
            &raw mut options,
        )
    };
    ensure!(fd >= 0, "cannot load `{name:?}`: {}", io::Error::from_raw_os_error(-fd));
    // SAFETY: the call above has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
