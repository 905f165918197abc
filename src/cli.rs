// SPDX-License-Identifier: Apache-2.0
//! The command line: one file a subcommand.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed or unhealthy,
//! 2 wrong usage.

mod agent;
mod bpf;
mod check;
mod cleanup;
mod client;
mod docs;
pub mod error;
mod explain;
mod health_keeper;
mod monitor;
mod output;
mod paths;
mod probe;
mod service;
mod status;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

pub use docs::pages;

/// Kubernetes services and pod traffic in eBPF, without kube-proxy
#[derive(Debug, Parser)]
#[command(name = "culvert", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run this node's agent
    Agent(agent::Args),
    /// Show what the agent does, and what instead of what was asked; without one, what it left behind
    Status(status::Args),
    /// Show the services this node serves
    #[command(subcommand)]
    Service(service::Command),
    Check(check::Args),
    /// Look into the maps of the datapath; needs no agent
    #[command(subcommand)]
    Bpf(bpf::Command),
    /// Print drops as they happen, and traces where asked for
    Monitor(monitor::Args),
    /// Show what this kernel can, what needs it, and what is used instead
    Probe(probe::Args),
    /// Detach every program and remove every map: the node is as before the agent
    Cleanup(cleanup::Args),
    /// Answer on health check ports while agents come and go; the agent starts one itself
    HealthKeeper(health_keeper::Args),
    /// Print a completion script for a shell
    Completions {
        /// For example `bash`: source <(culvert completions bash)
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
    /// Write the reference pages made from the program itself
    #[command(hide = true)]
    Docs(docs::Args),
}

/// Runs one subcommand.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Agent(args) => agent::run(args),
        Command::Status(args) => status::run(args),
        Command::Service(command) => service::run(command),
        Command::Check(args) => check::run(args),
        Command::Bpf(command) => bpf::run(command),
        Command::Monitor(args) => monitor::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Cleanup(args) => cleanup::run(args),
        Command::HealthKeeper(args) => health_keeper::run(args),
        Command::Completions { shell } => completions(shell),
        Command::Version => output::text(&format!("culvert {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Docs(args) => docs::run(args),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "culvert", &mut script);
    output::text(&String::from_utf8(script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
