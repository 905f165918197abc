// SPDX-License-Identifier: Apache-2.0
//! What the local API asks of the control loop.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::inspect::{Noted, Unclear};
use super::source::Snapshot;
use super::status::Status;
use crate::abi;
use crate::cni::api::{Call, Error, Reply};
use crate::lb::{Answer, Question};
use crate::model::{Kind, Problem};

/// One request. The loop answers each, sooner or later.
#[derive(Debug)]
pub enum Command {
    /// From `culvert-cni`.
    Cni { call: Call, reply: oneshot::Sender<Result<Reply, Error>> },
    /// Trace the packets of these hooks: a bit mask of `1 << Hook`, replacing the former one.
    Trace { hooks: u32 },
    /// What would happen to a new connection.
    Explain { asked: Asked, reply: oneshot::Sender<Answer> },
    /// Tell `noted` from now on what the source says. The answer: what it has listed so far.
    Observe { noted: Arc<Noted>, reply: oneshot::Sender<Result<Vec<Kind>, Unclear>> },
    /// Compare the maps with the plans, and these with what `source` listed since `noted` is told.
    Check {
        source: Arc<Snapshot>,
        noted: Arc<Noted>,
        reply: oneshot::Sender<Result<Vec<Problem>, Unclear>>,
    },
}

/// A connection that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub question: Question,
    /// The client's address; None: the answer is for all.
    pub from: Option<IpAddr>,
}

/// How the servers reach the control loop.
#[derive(Clone, Debug)]
pub struct Handle {
    pub status: watch::Receiver<Arc<Status>>,
    pub commands: mpsc::Sender<Command>,
    /// Drops and traces as they happen; a slow reader loses the oldest.
    pub events: broadcast::Sender<abi::Event>,
}
