// SPDX-License-Identifier: Apache-2.0
//! An API server as a source: list and watch, one independent task a kind.
//!
//! The protocol is the `kube` crate's watcher: streamed lists where the server has them, pages
//! where not, bookmarks, a new list after 410. What is added here: an answer deadline, so that a
//! server which accepts and never answers is noticed; the state of the connection, which the
//! watcher does not tell; several servers in the order of their health; fresh credentials and
//! authorities as they rotate; and that one kind's trouble (a missing role, say) is that kind's
//! alone.

mod board;
mod body;
mod client;
mod feed;
mod find;
mod link;
mod observer;
mod reflect;
mod servers;
mod transport;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::decode::{HEADLESS, PROXY_NAME};
use super::wire;
use crate::model::{Change, SourceStatus};
use board::Board;
pub use client::{Error, Options};
pub use find::find;
pub use observer::{Exchange, Observer};
use reflect::reflect;
use servers::Servers;
use transport::Transport;

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
    let uris = options.connection().await?.servers;
    let name: Vec<String> = uris.iter().map(servers::text).collect();
    let board = Board::new(format!("kube {}", name.join(" ")), status);
    let servers = Arc::new(Servers::new(uris, board.clone()));
    let transport = &Arc::new(Transport::new(options.clone(), servers).await?);

    let ours = match &options.proxy_name {
        // The label may also name us, which a selector cannot say beside "or is absent".
        Some(_) => format!("!{HEADLESS}"),
        None => format!("!{HEADLESS},!{PROXY_NAME}"),
    };
    let this_node = format!("spec.nodeName={}", options.node_name);
    let base = options.watch_config();
    let watches = async {
        tokio::join!(
            reflect::<wire::Service>(&options, transport, base.clone().labels(&ours), &tx, &board),
            reflect::<wire::EndpointSlice>(
                &options,
                transport,
                base.clone().labels(&ours),
                &tx,
                &board
            ),
            reflect::<wire::Node>(&options, transport, base.clone(), &tx, &board),
            reflect::<wire::Pod>(&options, transport, base.fields(&this_node), &tx, &board),
        )
    };
    tokio::select! {
        _ = watches => {}
        () = transport.watch_silence() => {}
    }
    Ok(())
}
