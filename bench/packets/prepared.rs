// SPDX-License-Identifier: Apache-2.0
//! A packet of established flows, and what must be done so that it can be timed.

use std::os::fd::BorrowedFd;

use anyhow::Result;

use super::raw::{Hook, Vary, Wrapper};
use super::world::World;

/// A packet ready to be timed.
#[derive(Debug)]
pub struct Prepared<'w> {
    pub hook: Hook,
    pub program: BorrowedFd<'w>,
    pub packet: Vec<u8>,
    pub ifindex: u32,
    pub vary: Vec<Vary>,
    /// The driver hook leaves the first packet of a flow in each tick to this program.
    pub keeper: Option<Wrapper>,
    pub bits: u32,
    /// Every packet opens a flow.
    pub opens: bool,
    /// Every packet is to carry the DSR option: what the keeper has confirmed is taken back.
    pub marks: Option<&'w World>,
}

impl<'w> Prepared<'w> {
    /// `program` of the driver hook, which keeps no flows.
    pub fn alone(program: BorrowedFd<'w>, packet: &[u8], vary: &[Vary]) -> Self {
        Self {
            hook: Hook::Driver,
            program,
            packet: packet.to_vec(),
            ifindex: 1,
            vary: vary.to_vec(),
            keeper: None,
            bits: 0,
            opens: false,
            marks: None,
        }
    }

    pub const fn must_keep(&self) -> bool {
        self.keeper.is_some()
    }

    /// Sends a packet of every flow to where it is written down that it came in this tick. So many
    /// random ones leave out not one flow in a million.
    pub fn keep(&self) -> Result<()> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        keeper.time(&self.packet, self.ifindex, 20 << self.bits)?;
        self.marks.map_or(Ok(()), World::mark_flows)
    }
}
