// SPDX-License-Identifier: Apache-2.0
//! The one control loop: source, model, plan, apply, retry, status.

pub mod apply;
pub mod command;
pub mod endpoints;
pub mod network;
pub mod pods;
pub mod reaper;
pub mod retry;
pub mod status;
pub mod sync;

pub use command::{Command, Handle};
