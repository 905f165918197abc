// SPDX-License-Identifier: Apache-2.0
//! The few kernel calls that time a program, and the wrapper that makes the timing honest.
//!
//! `BPF_PROG_TEST_RUN` does not restore the packet between repeats: a program that rewrites it would
//! run on its own output from the second repeat on. So a generated program writes the whole packet
//! and the skb's fields, then tail-calls the one under test; the same wrapper around a program that
//! only returns is the baseline to subtract.

use std::ffi::c_void;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::libbpf_sys as sys;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};

use super::insn::Assembler;
use super::load::load_as;

const TC_ACT_REDIRECT: u32 = 7;
const XDP_TX: u32 = 3;

/// What the wrapper returns when it could not reach the program; no verdict of tc has this value.
pub const NOT_REACHED: i32 = 77;

/// The start of the kernel's `struct __sk_buff`; a test run takes as much of it as it is given.
#[derive(Default)]
#[repr(C)]
struct SkBuff {
    len: u32,
    pkt_type: u32,
    mark: u32,
    queue_mapping: u32,
    protocol: u32,
    vlan_present: u32,
    vlan_tci: u32,
    vlan_proto: u32,
    priority: u32,
    ingress_ifindex: u32,
    ifindex: u32,
    tc_index: u32,
    cb: [u32; 5],
    hash: u32,
    tc_classid: u32,
    data: u32,
    data_end: u32,
}

/// The kernel's `struct xdp_md`.
#[derive(Default)]
#[repr(C)]
struct Frame {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// Where a program is called, and so what with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Tc,
    Driver,
}

impl Hook {
    /// The verdict on a packet that is sent on.
    pub const fn sent(self) -> u32 {
        match self {
            Self::Tc => TC_ACT_REDIRECT,
            Self::Driver => XDP_TX,
        }
    }
}

/// A 16-bit big-endian field of the packet of which the low `bits` change at random per packet.
#[derive(Clone, Copy, Debug)]
pub struct Vary {
    pub offset: usize,
    pub bits: u32,
}

/// One run's result.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: u32,
    pub packet: Vec<u8>,
}

/// Runs `program` on `packet` as it arrives on device `ifindex`; returns nanoseconds per repeat too.
pub fn run(
    hook: Hook,
    program: BorrowedFd,
    packet: &[u8],
    ifindex: u32,
    repeat: i32,
) -> Result<(Outcome, u32)> {
    let mut output = vec![0_u8; packet.len() + 256];
    let skb = SkBuff { ingress_ifindex: ifindex, ifindex, ..Default::default() };
    let frame =
        Frame { data_end: packet.len() as u32, ingress_ifindex: ifindex, ..Default::default() };
    let (context, context_size) = match hook {
        Hook::Tc => ((&raw const skb).cast::<c_void>(), size_of::<SkBuff>()),
        Hook::Driver => ((&raw const frame).cast::<c_void>(), size_of::<Frame>()),
    };
    let mut options = sys::bpf_test_run_opts {
        sz: size_of::<sys::bpf_test_run_opts>() as u64,
        data_in: packet.as_ptr().cast(),
        data_size_in: packet.len() as u32,
        data_out: output.as_mut_ptr().cast::<c_void>(),
        data_size_out: output.len() as u32,
        ctx_in: context,
        ctx_size_in: context_size as u32,
        repeat,
        ..Default::default()
    };
    // SAFETY: every pointer in `options` is to a live buffer of the size given beside it.
    let code = unsafe { sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    ensure!(code == 0, "cannot run the program: {}", io::Error::from_raw_os_error(-code));
    output.truncate(options.data_size_out as usize);
    Ok((Outcome { verdict: options.retval, packet: output }, options.duration))
}

/// A wrapper around one program, ready to be timed.
#[derive(Debug)]
pub struct Wrapper {
    hook: Hook,
    program: OwnedFd,
    /// Holds the tail-called program; the wrapper's own reference keeps only the array alive.
    _programs: MapHandle,
}

impl Wrapper {
    /// Wraps `target`; without one, a program that only returns.
    pub fn new(
        hook: Hook,
        target: Option<BorrowedFd>,
        packet: &[u8],
        vary: &[Vary],
    ) -> Result<Self> {
        let options = sys::bpf_map_create_opts {
            sz: size_of::<sys::bpf_map_create_opts>() as u64,
            ..Default::default()
        };
        let programs =
            MapHandle::create(MapType::ProgArray, Some("bench_programs"), 4, 4, 1, &options)
                .context("cannot create a program array")?;
        let program = load(hook, "bench_wrapper", &restore(hook, packet, vary, &programs))?;

        let null;
        let target = match target {
            Some(target) => target.as_raw_fd(),
            None => {
                let mut code = Assembler::default();
                code.set(0, 0);
                code.exit();
                null = load(hook, "bench_null", &code)?;
                null.as_raw_fd()
            }
        };
        programs
            .update(&0_u32.to_ne_bytes(), &target.to_ne_bytes(), MapFlags::ANY)
            .context("the program cannot be tail-called from the wrapper")?;
        Ok(Self { hook, program, _programs: programs })
    }

    /// Nanoseconds per packet, once.
    pub fn time(&self, packet: &[u8], ifindex: u32, repeat: i32) -> Result<(Outcome, u32)> {
        use std::os::fd::AsFd as _;
        let (outcome, nanos) = run(self.hook, self.program.as_fd(), packet, ifindex, repeat)?;
        ensure!(outcome.verdict != NOT_REACHED as u32, "the wrapper did not reach its program");
        Ok((outcome, nanos))
    }
}

/// Code that restores `packet` and jumps into the program that `programs` holds.
fn restore(hook: Hook, packet: &[u8], vary: &[Vary], programs: &MapHandle) -> Assembler {
    use std::os::fd::AsFd as _;
    // r6 context, r7 and r8 random values, r2 packet, r3 its end, r4 scratch.
    let (data, data_end, cleared) = match hook {
        Hook::Tc => (offset_of!(SkBuff, data), offset_of!(SkBuff, data_end), CLEARED.as_slice()),
        Hook::Driver => (offset_of!(Frame, data), offset_of!(Frame, data_end), [].as_slice()),
    };
    const CB: i16 = offset_of!(SkBuff, cb) as i16;
    const CLEARED: [i16; 9] = [
        offset_of!(SkBuff, mark) as i16,
        offset_of!(SkBuff, priority) as i16,
        offset_of!(SkBuff, tc_index) as i16,
        offset_of!(SkBuff, tc_classid) as i16,
        CB,
        CB + 4,
        CB + 8,
        CB + 12,
        CB + 16,
    ];

    let mut code = Assembler::default();
    code.copy(6, 1);
    for (register, field) in (7..).zip(vary) {
        code.call(sys::BPF_FUNC_get_prandom_u32);
        code.and(0, (1 << field.bits) - 1);
        code.copy(register, 0);
    }
    // What the last round put in front goes. Its price is the program's, and a few nanoseconds.
    if hook == Hook::Tc {
        code.load_u32(3, 6, offset_of!(SkBuff, len) as i16);
        code.set(2, packet.len() as i32);
        code.sub(2, 3);
        code.add(3, -(packet.len() as i32));
        code.set(1, 1);
        let same = code.jump_if_greater(1, 3);
        code.copy(1, 6);
        code.set(3, sys::BPF_ADJ_ROOM_NET as i32);
        code.set(4, 0);
        code.call(sys::BPF_FUNC_skb_adjust_room);
        code.land(same);
    } else {
        code.load_u32(2, 6, data as i16);
        code.load_u32(3, 6, data_end as i16);
        code.sub(3, 2);
        code.add(3, -(packet.len() as i32));
        code.set(1, 1);
        let same = code.jump_if_greater(1, 3);
        code.copy(2, 3);
        code.copy(1, 6);
        code.call(sys::BPF_FUNC_xdp_adjust_head);
        code.land(same);
    }
    code.load_u32(2, 6, data as i16);
    code.load_u32(3, 6, data_end as i16);
    code.copy(1, 2);
    code.add(1, packet.len() as i32);
    let too_short = code.jump_if_greater(1, 3);
    let (words, rest) = packet.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        code.set_wide(4, u64::from_ne_bytes(*word));
        code.store_u64(2, 4, (index * 8) as i16);
    }
    for (index, byte) in rest.iter().enumerate() {
        code.store_byte(2, (words.len() * 8 + index) as i16, *byte);
    }
    for (register, field) in (7..).zip(vary) {
        let value = u16::from_be_bytes([packet[field.offset], packet[field.offset + 1]]);
        code.xor(register, i32::from(value));
        code.swap16(register);
        code.store_u16(2, register, field.offset as i16);
    }
    for &offset in cleared {
        code.store_zero_u32(6, offset);
    }
    code.copy(1, 6);
    code.set_map(2, programs.as_fd());
    code.set(3, 0);
    code.call(sys::BPF_FUNC_tail_call);
    code.land(too_short);
    code.set(0, NOT_REACHED);
    code.exit();
    code
}

pub fn load(hook: Hook, name: &str, code: &Assembler) -> Result<OwnedFd> {
    // A tail call wants the same attach type on both sides.
    match hook {
        Hook::Tc => load_as(sys::BPF_PROG_TYPE_SCHED_CLS, 0, 0, name, code),
        Hook::Driver => {
            let flags = sys::BPF_F_XDP_HAS_FRAGS;
            load_as(sys::BPF_PROG_TYPE_XDP, sys::BPF_XDP, flags, name, code)
        }
    }
}
