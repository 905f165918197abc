// SPDX-License-Identifier: Apache-2.0
//! `culvert agent`: sets up logging and hands over to the control loop.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::args::ConfigArgs;
use crate::config::{Config, LogFormat};
use crate::datapath::host;

/// Each costs a stack and a share of the heap, on a large node as on a small one.
const WORKERS: usize = 4;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let config = args.config.load()?;
    // Before a program is attached: this cannot get better by itself.
    config.check_source().context("the configuration is refused")?;
    start_log(&config)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    info!(version = env!("CARGO_PKG_VERSION"), node = config.node_name, "starting");
    // The loop is one task; a few more decode, serve and wait.
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, WORKERS);
    host::limit_heap();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(crate::agent::run(config))?;
    Ok(ExitCode::SUCCESS)
}

/// To stderr; stdout is for data.
fn start_log(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log_level.0)
        .with_context(|| format!("cannot read `logLevel: {}`", config.log_level.0))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
