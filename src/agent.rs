// SPDX-License-Identifier: Apache-2.0
//! The one control loop: source, model, plan, apply, retry, status.

pub mod command;
pub mod endpoints;
pub mod status;

pub use command::{Command, Handle};
