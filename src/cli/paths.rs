// SPDX-License-Identifier: Apache-2.0
//! Where the agent of this node keeps its maps and its socket.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::error::Hint;
use crate::config::args::ConfigArgs;
use crate::datapath::Maps;

/// Taken from the agent's own configuration unless told otherwise.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Paths {
    /// Configuration file of the agent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the pinned maps, as the agent's `bpfRoot`
    #[arg(long, value_name = "PATH")]
    bpf_root: Option<PathBuf>,
    /// Socket of the agent, as its `socket`
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// The paths, resolved.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) bpf_root: PathBuf,
    pub(super) socket: PathBuf,
}

impl Paths {
    pub(super) fn resolve(&self) -> Result<Places> {
        if let (Some(bpf_root), Some(socket)) = (&self.bpf_root, &self.socket) {
            return Ok(Places { bpf_root: bpf_root.clone(), socket: socket.clone() });
        }
        let config = ConfigArgs::of_file(self.config.clone()).load().map_err(|error| {
            error.context(Hint {
                message: "cannot find out where the agent is".to_owned(),
                hint: "name its places with `--bpf-root` and `--socket`".to_owned(),
            })
        })?;
        Ok(Places {
            bpf_root: self.bpf_root.clone().unwrap_or(config.bpf_root),
            socket: self.socket.clone().unwrap_or(config.socket),
        })
    }

    /// The maps as they are pinned, whether the agent runs or not.
    pub(super) fn maps(&self) -> Result<Maps> {
        let root = self.resolve()?.bpf_root;
        Maps::open_pinned(&root).with_context(|| Hint {
            message: format!("cannot open the maps below `{}`", root.display()),
            hint:
                "they are made by the first `culvert agent` on this node; reading them takes root"
                    .to_owned(),
        })
    }
}
