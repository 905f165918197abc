// SPDX-License-Identifier: Apache-2.0
//! The handful of BPF instructions the wrapper is made of (RFC 9669).

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Source register of a 64-bit load that names a map by descriptor.
const PSEUDO_MAP_FD: u8 = 1;

/// One instruction, laid out as the kernel's `struct bpf_insn` on a little-endian machine.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A jump whose target is not known yet.
#[derive(Debug)]
#[must_use]
pub struct Jump(usize);

#[derive(Debug, Default)]
pub struct Assembler(Vec<Instruction>);

impl Assembler {
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    pub fn copy(&mut self, to: u8, from: u8) {
        self.push(0xbf, to, from, 0, 0);
    }

    pub fn set(&mut self, register: u8, value: i32) {
        self.push(0xb7, register, 0, 0, value);
    }

    pub fn set_wide(&mut self, register: u8, value: u64) {
        self.push(0x18, register, 0, 0, value as i32);
        self.push(0, 0, 0, 0, (value >> 32) as i32);
    }

    pub fn set_map(&mut self, register: u8, map: BorrowedFd) {
        self.push(0x18, register, PSEUDO_MAP_FD, 0, map.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
    }

    pub fn add(&mut self, register: u8, value: i32) {
        self.push(0x07, register, 0, 0, value);
    }

    /// Subtracts one register from another.
    pub fn sub(&mut self, register: u8, other: u8) {
        self.push(0x1f, register, other, 0, 0);
    }

    pub fn and(&mut self, register: u8, value: i32) {
        self.push(0x57, register, 0, 0, value);
    }

    pub fn xor(&mut self, register: u8, value: i32) {
        self.push(0xa7, register, 0, 0, value);
    }

    /// Host to network byte order, 16 bits.
    pub fn swap16(&mut self, register: u8) {
        self.push(0xdc, register, 0, 0, 16);
    }

    pub fn load_u32(&mut self, to: u8, base: u8, offset: i16) {
        self.push(0x61, to, base, offset, 0);
    }

    pub fn load_u16(&mut self, to: u8, base: u8, offset: i16) {
        self.push(0x69, to, base, offset, 0);
    }

    pub fn store_u64(&mut self, base: u8, from: u8, offset: i16) {
        self.push(0x7b, base, from, offset, 0);
    }

    pub fn store_u16(&mut self, base: u8, from: u8, offset: i16) {
        self.push(0x6b, base, from, offset, 0);
    }

    pub fn store_byte(&mut self, base: u8, offset: i16, value: u8) {
        self.push(0x72, base, 0, offset, i32::from(value));
    }

    pub fn store_zero_u32(&mut self, base: u8, offset: i16) {
        self.push(0x62, base, 0, offset, 0);
    }

    pub fn call(&mut self, helper: u32) {
        self.push(0x85, 0, 0, 0, helper as i32);
    }

    pub fn jump_if_greater(&mut self, left: u8, right: u8) -> Jump {
        self.push(0x2d, left, right, 0, 0);
        Jump(self.0.len() - 1)
    }

    pub fn jump_if_zero(&mut self, register: u8) -> Jump {
        self.push(0x15, register, 0, 0, 0);
        Jump(self.0.len() - 1)
    }

    /// Lets `jump` land on the next instruction.
    pub fn land(&mut self, jump: Jump) {
        self.0[jump.0].offset = (self.0.len() - jump.0 - 1) as i16;
    }

    pub fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        self.0.push(Instruction { code, registers: from << 4 | to, offset, immediate });
    }
}
