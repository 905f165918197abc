// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin: the 1.1.0 protocol and the calls to the agent.
//!
//! The plugin makes and removes the veth pair; the agent hands out addresses and owns the maps.
//! This module is compiled into both: the agent uses only [`api`] and [`names`].

pub mod api;
pub mod client;
pub mod command;
pub mod deletion;
pub mod link;
pub mod names;
pub mod netns;
pub mod protocol;
pub mod sysctl;
