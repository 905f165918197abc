// SPDX-License-Identifier: Apache-2.0
//! Programs that only return: what the kernel's hook costs before any of our code runs.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use libbpf_rs::libbpf_sys as sys;

use super::support::cgroup::Cgroup;

/// The programs leave with the cgroup.
#[derive(Debug)]
pub struct EmptyHooks {
    pub cgroup: Cgroup,
    _programs: [OwnedFd; 2],
}

impl EmptyHooks {
    pub fn new() -> Self {
        let cgroup = Cgroup::new();
        let directory = File::open(cgroup.path()).unwrap();
        let programs = [sys::BPF_CGROUP_INET4_CONNECT, sys::BPF_CGROUP_INET6_CONNECT].map(|hook| {
            let program = load(hook);
            // SAFETY: both descriptors are open; the kernel keeps the program itself.
            let code = unsafe {
                sys::bpf_prog_attach(program.as_raw_fd(), directory.as_raw_fd(), hook, 0)
            };
            assert_eq!(code, 0, "cannot attach: {}", io::Error::from_raw_os_error(-code));
            program
        });
        Self { cgroup, _programs: programs }
    }
}

/// `return 1`: the call goes on.
fn load(hook: sys::bpf_attach_type) -> OwnedFd {
    const NAME: &CStr = c"bench_empty";
    let instruction =
        |code, immediate| sys::bpf_insn { code, imm: immediate, ..Default::default() };
    let code = [instruction(0xb7, 1), instruction(0x95, 0)];
    let mut options = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as u64,
        expected_attach_type: hook,
        ..Default::default()
    };
    // SAFETY: everything lives through the call, and the count is that of the instructions.
    let fd = unsafe {
        sys::bpf_prog_load(
            sys::BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
            NAME.as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr(),
            code.len() as u64,
            &raw mut options,
        )
    };
    assert!(fd >= 0, "cannot load an empty program: {}", io::Error::from_raw_os_error(-fd));
    // SAFETY: the call above has just given us this descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
