// SPDX-License-Identifier: Apache-2.0
//! `culvert`: parse arguments, run a subcommand, tell how it ended.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // Wrong usage prints itself and exits with 2.
    let cli = culvert::cli::Cli::parse();
    match culvert::cli::run(cli) {
        Ok(code) => code,
        Err(error) => culvert::cli::error::report(&error),
    }
}
