// SPDX-License-Identifier: Apache-2.0
//! The trials.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use libbpf_rs::{MapHandle, MapType, ProgramType, libbpf_sys as raw};

use crate::datapath::map::{Cursor, Map};
use crate::datapath::{host, log, sys};

pub(super) struct Answer {
    pub(super) present: bool,
    pub(super) detail: String,
}

impl Answer {
    pub(super) fn yes(detail: impl Into<String>) -> Self {
        Self { present: true, detail: detail.into() }
    }

    pub(super) fn no(detail: impl Into<String>) -> Self {
        Self { present: false, detail: detail.into() }
    }

    fn of<T>(result: io::Result<T>, tried: &str) -> Self {
        match result {
            Ok(_) => Self::yes(tried),
            Err(error) => Self::no(format!("{tried}: {error}")),
        }
    }
}

pub(super) fn bpffs(root: &Path) -> Answer {
    // The root itself may not be made yet; its nearest ancestor tells.
    let there = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    match host::is_mounted(there, nix::sys::statfs::BPF_FS_MAGIC) {
        Ok(true) => Answer::yes(format!("bpffs at {}", there.display())),
        Ok(false) => Answer::no(format!("no bpffs at {}", there.display())),
        Err(error) => Answer::no(format!("{}: {error}", there.display())),
    }
}

pub(super) fn cgroup2() -> Answer {
    match host::cgroup2() {
        Ok(Some(path)) => Answer::yes(path.display().to_string()),
        Ok(None) => Answer::no("no cgroup2 is mounted"),
        Err(error) => Answer::no(format!("/proc/self/mounts: {error}")),
    }
}

pub(super) fn program(program_type: u32) -> Answer {
    let name = ProgramType::from(program_type);
    let (present, _) = log::capture(|| sys::has_program_type(program_type));
    Answer { present, detail: format!("test load of a {name:?} program") }
}

pub(super) fn map(map_type: u32) -> Answer {
    let name = MapType::from(map_type);
    let (present, _) = log::capture(|| sys::has_map_type(map_type));
    Answer { present, detail: format!("creation of a {name:?} map") }
}

pub(super) fn helper(program_type: u32, helper: u32) -> Answer {
    let name = ProgramType::from(program_type);
    let (present, _) = log::capture(|| sys::has_helper(program_type, helper));
    Answer { present, detail: format!("helper {helper} in a {name:?} program") }
}

pub(super) fn attach_type(program_type: u32, attach_type: u32) -> Answer {
    // Some of these hooks allow no other return value.
    let (result, _) =
        log::capture(|| sys::load_trivial(program_type, attach_type, &[mov(0, 1), exit()]));
    Answer::of(result, &format!("test load for attach type {attach_type}"))
}

pub(super) fn netns_cookie() -> Answer {
    Answer::of(host::netns_cookie(), "getsockopt SO_NETNS_COOKIE")
}

/// Atomics that return the old value, Linux 5.12.
pub(super) fn atomics() -> Answer {
    const ATOMIC_DW: u8 = (raw::BPF_STX | raw::BPF_DW | raw::BPF_ATOMIC) as u8;
    const STORE_DW: u8 = (raw::BPF_ST | raw::BPF_DW | raw::BPF_MEM) as u8;
    let fetch_add = (raw::BPF_ADD | raw::BPF_FETCH) as i32;
    let program = [
        instruction(STORE_DW, 10, 0, -8, 0),
        mov(1, 1),
        instruction(ATOMIC_DW, 10, 1, -8, fetch_add),
        mov(0, 0),
        exit(),
    ];
    let (result, _) =
        log::capture(|| sys::load_trivial(raw::BPF_PROG_TYPE_SOCKET_FILTER, 0, &program));
    Answer::of(result, "test load of an atomic fetch")
}

/// Whether devices take TCX links, Linux 6.6.
pub fn has_tcx() -> bool {
    tcx().present
}

/// A link to a device that does not exist: a kernel that knows such links misses the device, one
/// that does not finds the request invalid.
pub(super) fn tcx() -> Answer {
    let tried = "link to a missing device";
    let (result, _) = log::capture(|| {
        let program = sys::load_trivial(raw::BPF_PROG_TYPE_SCHED_CLS, 0, &[mov(0, 0), exit()])?;
        sys::link_create(program.as_fd(), i32::MAX, raw::BPF_TCX_INGRESS, 0)
    });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Answer::yes(tried),
        other => Answer::of(other, tried),
    }
}

/// Batched writes and reads of hash maps, Linux 5.6.
pub(super) fn batches() -> Answer {
    let tried = "batched read of a hash map";
    let (result, _) = log::capture(|| -> io::Result<bool> {
        let opts = raw::bpf_map_create_opts {
            sz: size_of::<raw::bpf_map_create_opts>() as raw::size_t,
            ..Default::default()
        };
        let handle = MapHandle::create(MapType::Hash, Some("culvert_probe"), 4, 4, 2, &opts)
            .map_err(io::Error::other)?;
        let map = Map::<u32, u32>::from_fd("culvert_probe", handle.as_fd().try_clone_to_owned()?)
            .map_err(io::Error::other)?;
        for key in [1, 2] {
            map.set(&key, &key).map_err(io::Error::other)?;
        }
        // One of two: a scan that went key by key is not at its end yet, and shows what it is.
        let mut cursor = Cursor::new();
        map.read_portion(&mut cursor, 1, &mut Vec::new()).map_err(io::Error::other)?;
        Ok(!cursor.is_by_key())
    });
    match result {
        Ok(false) => Answer::no(tried),
        other => Answer::of(other, tried),
    }
}

fn exit() -> raw::bpf_insn {
    instruction((raw::BPF_JMP | raw::BPF_EXIT) as u8, 0, 0, 0, 0)
}

fn mov(register: u8, value: i32) -> raw::bpf_insn {
    instruction((raw::BPF_ALU64 | raw::BPF_MOV | raw::BPF_K) as u8, register, 0, 0, value)
}

fn instruction(code: u8, destination: u8, source: u8, off: i16, imm: i32) -> raw::bpf_insn {
    let registers = raw::bpf_insn::new_bitfield_1(destination, source);
    raw::bpf_insn { code, _bitfield_align_1: [], _bitfield_1: registers, off, imm }
}
