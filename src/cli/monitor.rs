// SPDX-License-Identifier: Apache-2.0
//! `culvert monitor`: drops as they happen, and traces where asked for.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use http_body_util::BodyExt as _;
use serde::Deserialize;

use super::client::{Client, block_on};
use super::paths::Paths;
use crate::view::{EventView, hook_mask};

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
    hook_mask(args.trace.iter().map(String::as_str)).map_err(anyhow::Error::msg)?;
    let places = args.paths.resolve()?;
    block_on(async {
        let client = Client::connect(&places.socket).await?;
        let path = match args.trace.as_slice() {
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
                print(&line, args.output)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn print(line: &[u8], format: Format) -> Result<()> {
    let parsed: Line = serde_json::from_slice(line).context("cannot read the agent's event")?;
    let mut out = std::io::stdout().lock();
    match (parsed, format) {
        (Line::Lost { lost }, _) => {
            eprintln!("{lost} events were lost: they came faster than they could be printed");
            return Ok(());
        }
        (Line::Event(_), Format::Json) => out.write_all(line),
        (Line::Event(event), Format::Text) => writeln!(out, "{event}"),
    }
    .and_then(|()| out.flush())
    .context("cannot write to stdout")
}
