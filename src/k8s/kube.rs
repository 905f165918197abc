// SPDX-License-Identifier: Apache-2.0
//! An API server as a source: list and watch, one independent task a kind.
//!
//! The protocol is the `kube` crate's watcher: streamed lists where the server has them, pages
//! where not, bookmarks, a new list after 410. What is added here: an answer deadline, so that a
//! server which accepts and never answers is noticed; the state of the connection, which the
//! watcher does not tell; fresh credentials after a 401; and that one kind's trouble (a missing
//! role, say) is that kind's alone.

mod board;
mod client;
mod feed;
mod link;
mod reflect;

use tokio::sync::{mpsc, watch};

use super::decode::{HEADLESS, PROXY_NAME};
use super::wire;
use crate::model::{Change, SourceStatus};
use board::Board;
pub use client::{Error, Options};
use reflect::reflect;

/// Follows services, endpoint slices, nodes and this node's pods until `tx`'s receiver is dropped.
///
/// The API server being away is no error: what was last known stays, `status` says so, and the
/// watches go on when it is back.
///
/// # Errors
/// The options lead to no client: an unreadable kubeconfig, certificate or token, a bad address.
pub async fn run(
    options: Options,
    tx: mpsc::Sender<Change>,
    status: watch::Sender<SourceStatus>,
) -> Result<(), Error> {
    let config = options.config().await?;
    // A client is made here only to learn early of what can never work.
    drop(client::build(&config, &options, || {})?);
    let board = Board::new(format!("kube {}", config.cluster_url), status);

    let ours = match &options.proxy_name {
        // The label may also name us, which a selector cannot say beside "or is absent".
        Some(_) => format!("!{HEADLESS}"),
        None => format!("!{HEADLESS},!{PROXY_NAME}"),
    };
    let this_node = format!("spec.nodeName={}", options.node_name);
    let base = options.watch_config();
    tokio::join!(
        reflect::<wire::Service>(&options, base.clone().labels(&ours), &tx, &board),
        reflect::<wire::EndpointSlice>(&options, base.clone().labels(&ours), &tx, &board),
        reflect::<wire::Node>(&options, base.clone(), &tx, &board),
        reflect::<wire::Pod>(&options, base.fields(&this_node), &tx, &board),
    );
    Ok(())
}
