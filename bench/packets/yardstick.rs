// SPDX-License-Identifier: Apache-2.0
//! What one lookup in a table like `flows` costs, and one insertion into a full one like `flows_new`,
//! and nothing else.
//!
//! The lookup is the least that a packet of an established flow can cost. How much more it costs
//! among 16,384 flows is the machine's part of every row of so many: misses of its caches. A new flow
//! pays for two insertions.

use std::mem::size_of;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use culvert::abi::{Flow, FlowKey};
use libbpf_rs::libbpf_sys as sys;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};

use super::insn::Assembler;
use super::raw::{self, Hook, NOT_REACHED, Vary};

/// As `flows` has by default (`flowsMax`).
const ENTRIES: u32 = 524_288;
const KEY: usize = size_of::<FlowKey>();

/// As `flows_new` has by default (`flowsNewMax`).
const HALF_OPEN_ENTRIES: u32 = 65_536;

/// A program with one call, and its table.
#[derive(Debug)]
pub struct Yardstick {
    program: OwnedFd,
    _table: MapHandle,
}

impl Yardstick {
    /// Looks up by the first varying field of `packet`, or by a constant where none varies.
    pub fn lookup(packet: &[u8], vary: &[Vary]) -> Result<Self> {
        let table = table(MapType::Hash, ENTRIES)?;
        let bits = vary.first().map_or(0, |vary| vary.bits);
        let start = vary
            .first()
            .map_or(0, |vary| u16::from_be_bytes([packet[vary.offset], packet[vary.offset + 1]]));
        for low in 0..1_u16 << bits {
            // A flow has two entries, of which a packet meets one.
            for second in [0, 1] {
                let mut key = [0; KEY];
                key[..2].copy_from_slice(&(start ^ low).to_be_bytes());
                key[2] = second;
                table.update(&key, &[0; size_of::<Flow>()], MapFlags::ANY)?;
            }
        }
        let program = raw::load(Hook::Driver, "bench_lookup", &lookup(packet, vary, &table))?;
        Ok(Self { program, _table: table })
    }

    /// Inserts random keys.
    pub fn insertion() -> Result<Self> {
        let table = table(MapType::LruHash, HALF_OPEN_ENTRIES)?;
        let program = raw::load(Hook::Driver, "bench_insert", &insertion(&table))?;
        Ok(Self { program, _table: table })
    }

    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

fn table(kind: MapType, entries: u32) -> Result<MapHandle> {
    let options = sys::bpf_map_create_opts {
        sz: size_of::<sys::bpf_map_create_opts>() as u64,
        ..Default::default()
    };
    let (key, value) = (KEY as u32, size_of::<Flow>() as u32);
    MapHandle::create(kind, Some("bench_table"), key, value, entries, &options)
        .context("cannot create a table")
}

fn insertion(table: &MapHandle) -> Assembler {
    const VALUE: usize = size_of::<Flow>();
    let mut code = Assembler::default();
    let frame = 10;
    code.call(sys::BPF_FUNC_get_prandom_u32);
    code.set(5, 0);
    for word in 1..=(KEY + VALUE) / 8 {
        code.store_u64(frame, 5, -8 * word as i16);
    }
    code.store_u64(frame, 0, -(KEY as i16));
    code.set_map(1, table.as_fd());
    code.copy(2, frame);
    code.add(2, -(KEY as i32));
    code.copy(3, frame);
    code.add(3, -((KEY + VALUE) as i32));
    code.set(4, 0);
    code.call(sys::BPF_FUNC_map_update_elem);
    code.set(0, Hook::Driver.sent() as i32);
    code.exit();
    code
}

fn lookup(packet: &[u8], vary: &[Vary], table: &MapHandle) -> Assembler {
    let mut code = Assembler::default();
    let frame = 10;
    code.load_u32(2, 1, 0);
    code.load_u32(3, 1, 4);
    code.copy(1, 2);
    code.add(1, packet.len() as i32);
    let too_short = code.jump_if_greater(1, 3);
    code.set(5, 0);
    for word in 1..=KEY / 8 {
        code.store_u64(frame, 5, -8 * word as i16);
    }
    if let Some(field) = vary.first() {
        code.load_u16(4, 2, field.offset as i16);
        code.store_u16(frame, 4, -(KEY as i16));
    }
    code.set_map(1, table.as_fd());
    code.copy(2, frame);
    code.add(2, -(KEY as i32));
    code.call(sys::BPF_FUNC_map_lookup_elem);
    let absent = code.jump_if_zero(0);
    // The value's last word: on another cache line than the key.
    code.load_u32(1, 0, size_of::<Flow>() as i16 - 4);
    code.set(0, Hook::Driver.sent() as i32);
    code.exit();
    code.land(too_short);
    code.land(absent);
    code.set(0, NOT_REACHED);
    code.exit();
    code
}
