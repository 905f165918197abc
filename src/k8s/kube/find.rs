// SPDX-License-Identifier: Apache-2.0
//! Asks for one service, whoever's it is.

use std::sync::Arc;

use ::kube::Api;
use ::kube::api::ListParams;
use tokio::sync::watch;

use super::board::Board;
use super::client::{Error, Options};
use super::servers::Servers;
use super::transport::Transport;
use super::{link, servers};
use crate::k8s::Found;
use crate::k8s::decode::{Decoder, Wire as _};
use crate::k8s::wire;
use crate::model::{ObjectName, SourceStatus};

/// What the API server has under `name`. A list of at most one: the agent's role has no `get`.
///
/// # Errors
/// The options lead to no client, or the server does not answer.
pub async fn find(options: Options, name: &ObjectName) -> Result<Found, Error> {
    let uris = options.connection().await?.servers;
    let server = servers::text(&uris[0]);
    let board = Board::new(String::new(), watch::channel(SourceStatus::default()).0);
    let servers = Arc::new(Servers::new(uris, board));
    let mut decoder = Decoder::new(options.proxy_name.clone());
    let transport = Arc::new(Transport::new(options, servers).await?);
    let services: Api<wire::Service> = Api::all(link::client(transport, || {}, || {}));
    let selector = format!("metadata.name={},metadata.namespace={}", name.name, name.namespace);
    let listed = services.list(&ListParams::default().fields(&selector)).await;
    let listed = listed.map_err(|source| Error::Client { server, source: Box::new(source) })?;
    Ok(match listed.items.first() {
        None => Found::Nothing,
        Some(service) => Found::of(service.decode(&mut decoder)),
    })
}
