// SPDX-License-Identifier: Apache-2.0
//! Questions asked from a place of the lab.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::lab::place::Place;

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Answer {
        /// Of the pod that answered.
        name: String,
        /// Whom that pod saw.
        peer: SocketAddr,
        /// Whom the client thinks it talks to.
        seen: SocketAddr,
    },
    /// `refused`, `unreachable`, `timeout`, or the kernel's words.
    Error { error: String },
}

impl Outcome {
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Answer { name, .. } => Some(name),
            Self::Error { .. } => None,
        }
    }
}

/// `protocol` is `tcp`, `udp` or `udp-unconnected`; port 0 lets the kernel choose.
pub fn ask(
    lab_program: &Path,
    from: &Place,
    protocol: &str,
    to: SocketAddr,
    from_port: u16,
) -> Result<Outcome> {
    let mut command = from.command(lab_program);
    command.args(["ask", protocol, &to.to_string(), &from_port.to_string()]);
    let output = from.output(&mut command)?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the client said {:?}", String::from_utf8_lossy(&output.stderr)))
}
