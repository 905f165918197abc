// SPDX-License-Identifier: Apache-2.0
//! `culvert monitor`: drops as they happen, and traces where asked for.
//!
//! The ring of events has one consumer. While the agent runs that is the agent, and this asks it;
//! only when no agent answers does this read the ring itself.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Client, block_on};
use super::paths::Paths;
use crate::datapath::Maps;
use crate::datapath::events::Events;
use crate::view::{EventView, hook_mask};

/// Events that may wait for a slow terminal.
const BACKLOG: usize = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    paths: Paths,
    /// Also trace every packet that these programs meet, for example `from_netdev`, or `all`
    #[arg(long, value_name = "HOOK", num_args = 1.., value_delimiter = ',')]
    trace: Vec<String>,
    /// How to write events, one a line
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// One line of the agent's stream.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Event(EventView),
    Lost { lost: u64 },
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let hooks = hook_mask(args.trace.iter().map(String::as_str)).map_err(anyhow::Error::msg)?;
    let places = args.paths.resolve()?;
    block_on(async {
        match Client::connect(&places.socket).await {
            Ok(client) => ask(client, &args.trace, args.output).await?,
            Err(_) if places.bpf_root.exists() => {
                eprintln!("no agent answers; reading the ring of events itself");
                read(&places.bpf_root, hooks, args.output).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn ask(client: Client, trace: &[String], format: Format) -> Result<()> {
    let path = match trace {
        [] => "/v1/monitor".to_owned(),
        hooks => format!("/v1/monitor?trace={}", hooks.join(",")),
    };
    let mut body = client.open(&path).await?.into_body();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the agent hung up")?.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            match serde_json::from_slice(&line).context("cannot read the agent's event")? {
                Line::Event(event) => print(&event, format)?,
                Line::Lost { lost } => tell_lost(lost),
            }
        }
    }
    Ok(())
}

/// Until a signal: what was traced for this reader must not go on without it.
async fn read(bpf_root: &Path, hooks: u32, format: Format) -> Result<()> {
    let maps = Maps::open_pinned(bpf_root).context("cannot open the pinned maps")?;
    let mut events = Events::open(&maps, BACKLOG).context("cannot read the event ring")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    maps.set_trace(hooks).context("cannot switch traces on")?;
    let mut lost = 0;
    let result = loop {
        let event = tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            event = events.next() => event,
        };
        let Some(event) = event else { break Ok(()) };
        if let Err(error) = print(&EventView::from(&event), format) {
            break Err(error);
        }
        let now = events.lost();
        if now > lost {
            tell_lost(now - lost);
            lost = now;
        }
    };
    maps.set_trace(0).context("cannot switch traces off")?;
    result
}

fn tell_lost(lost: u64) {
    eprintln!("{lost} events were lost: they came faster than they could be printed");
}

fn print(event: &EventView, format: Format) -> Result<()> {
    let line = match format {
        Format::Text => event.to_string(),
        Format::Json => serde_json::to_string(event)?,
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to stdout")
}
