// SPDX-License-Identifier: Apache-2.0
//! Programs that only return: what the kernel's hook costs before any of our code runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use libbpf_rs::libbpf_sys as sys;

use super::programs::insn::Assembler;
use super::programs::load::load_as;
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
    let mut code = Assembler::default();
    code.set(0, 1);
    code.exit();
    load_as(sys::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hook, 0, "bench_empty", &code).unwrap()
}
