// SPDX-License-Identifier: Apache-2.0
//! `culvert status`: what was asked for, what is in effect, and why.

mod draw;
mod verbose;

use std::process::ExitCode;

use anyhow::Result;

use super::client::{Client, block_on};
use super::output::{Format, Output};
use super::paths::Paths;
use crate::agent::status::Status;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    output: Output,
    /// Show everything the agent knows of itself
    #[arg(short, long)]
    verbose: bool,
    /// Print only whether the agent is well
    #[arg(short, long, conflicts_with = "verbose")]
    brief: bool,
}

/// Fails when the agent does not answer; exits with 1 when it is not ready.
pub(super) fn run(args: Args) -> Result<ExitCode> {
    let places = args.paths.resolve()?;
    let status: Status =
        block_on(async { Client::connect(&places.socket).await?.get("/v1/status").await })?;

    if args.brief && args.output.output == Format::Table {
        if status.ready {
            super::output::text("OK\n")?;
        } else {
            eprintln!("error: waiting for {}", status.waiting_for.join(", "));
        }
    } else {
        args.output.write(&status, |status| {
            let mut text = draw::lines(status);
            if args.verbose {
                text.push_str(&verbose::lines(status));
            }
            text
        })?;
    }
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
