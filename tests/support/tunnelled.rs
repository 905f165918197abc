// SPDX-License-Identifier: Apache-2.0
//! Packets as a Geneve device hands them up, on kernels without one: a test run says nothing of
//! tunnels, so a program of its own sets the tunnel option and goes on with the real one.

use std::os::fd::{AsFd as _, AsRawFd as _};

use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder, ProgramMut};

use super::node::Node;
use super::variant;

/// Bytes of options that fit, all of them a multiple of four.
const ROOM: usize = 64;

/// What it returns where the kernel refuses the option.
const FAILED: u32 = 99;

#[derive(Debug)]
pub struct Tunnelled {
    object: Object,
}

impl Tunnelled {
    /// Goes on with `program`.
    pub fn new(program: &ProgramMut<'_>) -> Self {
        let elf = variant::compile("tests/support/tunnelled.bpf.c", &[]);
        let object = ObjectBuilder::default().open_file(elf.path()).unwrap().load().unwrap();
        let fd = program.as_fd().as_raw_fd();
        let next = object.maps().find(|map| map.name() == "next").unwrap();
        next.update(&[0; 4], &fd.to_ne_bytes(), MapFlags::ANY).unwrap();
        Self { object }
    }

    /// The action for `frame`, which came out of the tunnel device `ifindex` with `option`, and what
    /// became of it. Empty: without any. On a thread that is in the node's namespace.
    pub fn raw_inside(&self, ifindex: u32, frame: &[u8], option: &[u8]) -> (u32, Vec<u8>) {
        let mut value = (option.len() as u32).to_ne_bytes().to_vec();
        value.extend(option);
        value.resize(size_of::<u32>() + ROOM, 0);
        let carried = self.object.maps().find(|map| map.name() == "carried").unwrap();
        carried.update(&[0; 4], &value, MapFlags::ANY).unwrap();
        let program = self.object.progs_mut().next().unwrap();
        let (action, out) = Node::raw_of(&program, ifindex, frame);
        assert_ne!(action, FAILED, "no tunnel option {option:02x?}");
        (action, out)
    }
}
