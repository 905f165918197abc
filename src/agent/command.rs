// SPDX-License-Identifier: Apache-2.0
//! What the local API asks of the control loop.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::status::Status;
use crate::abi;
use crate::cni::api::{Call, Error, Reply};

/// One request. The loop answers each, sooner or later.
#[derive(Debug)]
pub enum Command {
    /// From `culvert-cni`.
    Cni { call: Call, reply: oneshot::Sender<Result<Reply, Error>> },
    /// Trace the packets of these hooks: a bit mask of `1 << Hook`, replacing the former one.
    Trace { hooks: u32 },
}

/// How the servers reach the control loop.
#[derive(Clone, Debug)]
pub struct Handle {
    pub status: watch::Receiver<Arc<Status>>,
    pub commands: mpsc::Sender<Command>,
    /// Drops and traces as they happen; a slow reader loses the oldest.
    pub events: broadcast::Sender<abi::Event>,
}
