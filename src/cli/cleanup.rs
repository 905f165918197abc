// SPDX-License-Identifier: Apache-2.0
//! `culvert cleanup`: takes everything off the node.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::client::{Client, block_on};
use super::error::Hint;
use super::output;
use super::paths::Paths;
use crate::datapath;
use crate::datapath::netlink::{GENEVE_DEVICE, Geneve, Routes};
use crate::serve::keeper;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    paths: Paths,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let places = args.paths.resolve()?;
    let running = block_on(async { Ok(Client::connect(&places.socket).await.is_ok()) })?;
    if running {
        return Err(anyhow::Error::msg(format!(
            "an agent answers on `{}`",
            places.socket.display()
        ))
        .context(Hint {
            message: "the node is in use".to_owned(),
            hint: "stop the agent first; it would attach everything again".to_owned(),
        }));
    }
    let keeper = keeper::socket_beside(&places.socket);
    let kept = block_on(async {
        let Ok(keeper) = keeper::Client::connect(&keeper).await else { return Ok(false) };
        keeper.stop().await?;
        Ok(true)
    })
    .context("cannot end the keeper of health check ports")?;
    let removed = datapath::cleanup(&places.bpf_root)
        .with_context(|| format!("cannot clean up below `{}`", places.bpf_root.display()))?;
    let routes = block_on(async { Ok(Routes::open()?.clear().await?) })
        .context("cannot remove the routes to other nodes' pods")?;
    let geneve = block_on(async { Ok(Geneve::open()?.remove().await?) })
        .with_context(|| format!("cannot remove device `{GENEVE_DEVICE}`"))?;
    let mut text = String::new();
    if geneve {
        text.push_str(&format!("removed device {GENEVE_DEVICE}\n"));
    }
    if kept {
        text.push_str("stopped the keeper of health check ports\n");
    }
    for (what, names) in
        [("link", &removed.links), ("filters on", &removed.filters), ("map", &removed.maps)]
    {
        for name in names {
            text.push_str(&format!("removed {what} {name}\n"));
        }
    }
    for route in routes {
        text.push_str(&format!("removed the route to {route}\n"));
    }
    output::text(&text)
}
