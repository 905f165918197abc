// SPDX-License-Identifier: Apache-2.0
//! What the agent serves: health and metrics over HTTP, the local API socket.
//!
//! Nothing here decides anything. The control loop publishes its [`Status`](crate::agent::status),
//! tells [`Health`] of updates and writes [`Metrics`]; requests that change something go to it as
//! [`Command`](crate::agent::Command)s.

pub mod api;
pub mod health;
mod http;
pub mod keeper;
pub mod metrics;
pub mod public;
mod questions;
mod socket;
mod tracing;

use std::sync::Arc;

pub use health::Health;
pub use metrics::Metrics;
pub use socket::{Error as SocketError, bind as bind_socket};

use crate::agent::Handle;
use crate::config::Config;
use crate::datapath::Maps;

/// What every request may look at.
#[derive(Clone, Debug)]
pub struct Shared {
    pub agent: Handle,
    /// What a question to the source needs.
    pub config: Arc<Config>,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    pub maps: Arc<Maps>,
}
