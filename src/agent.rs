// SPDX-License-Identifier: Apache-2.0
//! The one control loop: source, model, plan, apply, retry, status.

pub mod acceleration;
pub mod apply;
pub mod background;
pub mod checks;
pub mod command;
pub mod core;
pub mod dsr;
pub mod endpoints;
pub mod features;
mod inspect;
pub mod nodes;
pub mod reaper;
pub mod report;
pub mod retry;
mod run;
pub mod source;
pub mod status;
pub mod sync;
mod task;
pub mod uplinks;

pub use command::{Asked, Command, Handle};
pub use inspect::{Noted, Unclear};
pub use run::run;

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
