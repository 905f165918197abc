// SPDX-License-Identifier: Apache-2.0
//! `culvert status`: what was asked for, what is in effect, and why.

mod draw;
mod left;
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

/// Exits with 1 when the agent is not ready. Where it does not answer, what it left behind is shown;
/// fails where that is nothing.
pub(super) fn run(args: Args) -> Result<ExitCode> {
    let places = args.paths.resolve()?;
    let asked = block_on(async { Client::connect(&places.socket).await?.get("/v1/status").await });
    let status: Status = match asked {
        Ok(status) => status,
        Err(error) if args.brief => return Err(error),
        Err(error) => {
            let Ok(left) = left::read(&places.bpf_root, &error) else { return Err(error) };
            args.output.write(&left, left::lines)?;
            return Ok(ExitCode::FAILURE);
        }
    };

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
