// SPDX-License-Identifier: Apache-2.0
//! Asking the kernel what it can do, by trying.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;

use libbpf_rs::libbpf_sys as raw;

use super::check_fd;

/// Whether programs of this type load.
pub(in crate::datapath) fn has_program_type(program_type: u32) -> bool {
    // SAFETY: null options are the only ones allowed.
    unsafe { raw::libbpf_probe_bpf_prog_type(program_type, ptr::null()) == 1 }
}

/// Whether maps of this type can be created.
pub(in crate::datapath) fn has_map_type(map_type: u32) -> bool {
    // SAFETY: null options are the only ones allowed.
    unsafe { raw::libbpf_probe_bpf_map_type(map_type, ptr::null()) == 1 }
}

/// Whether the verifier knows the helper in programs of this type.
pub(in crate::datapath) fn has_helper(program_type: u32, helper: u32) -> bool {
    // SAFETY: null options are the only ones allowed.
    unsafe { raw::libbpf_probe_bpf_helper(program_type, helper, ptr::null()) == 1 }
}

/// Loads a program of nothing but these instructions.
pub(in crate::datapath) fn load_trivial(
    program_type: u32,
    attach_type: u32,
    instructions: &[raw::bpf_insn],
) -> io::Result<OwnedFd> {
    const NAME: &CStr = c"culvert_probe";
    const LICENSE: &CStr = c"Dual BSD/GPL";
    let mut opts = raw::bpf_prog_load_opts {
        sz: size_of::<raw::bpf_prog_load_opts>() as raw::size_t,
        expected_attach_type: attach_type,
        ..Default::default()
    };
    // SAFETY: strings and instructions outlive the call, their count is right, `opts` says its
    // own size.
    check_fd(unsafe {
        raw::bpf_prog_load(
            program_type,
            NAME.as_ptr(),
            LICENSE.as_ptr(),
            instructions.as_ptr(),
            instructions.len() as raw::size_t,
            &mut opts,
        )
    })
}
