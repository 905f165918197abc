// SPDX-License-Identifier: Apache-2.0
//! `culvert health-keeper`: holds the sockets of `healthCheckNodePort`s while agents come and go.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::value::Value as _;
use crate::serve::keeper;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the agent tells what to answer: its `socket`, with the ending `.health.sock`
    #[arg(long, value_name = "PATH", default_value = "/run/culvert/culvert.health.sock")]
    socket: PathBuf,
    /// The node counts as unhealthy when no agent has said anything for this long
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = Duration::parse)]
    patience: Duration,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    // Whoever ends the agent's session does not mean us. Fails only where we lead one already.
    let _ = nix::unistd::setsid();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(keeper::run(&args.socket, args.patience))?;
    Ok(ExitCode::SUCCESS)
}
