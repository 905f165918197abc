// SPDX-License-Identifier: Apache-2.0
//! The source that the configuration names: followed for good, read once, or asked for one service.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::chain;
use crate::config::{self, Config, Source};
use crate::k8s::decode::NotOurs;
use crate::k8s::{Found, kube, manifests};
use crate::model::{Change, Kind, ObjectName, Problem, SourceStatus};

/// A source that says nothing for this long while it is read once counts as away.
const SILENCE: Duration = Duration::from_secs(10);

/// Sends everything there is, then what changes, until `changes` has no receiver.
/// `observer` is told of the requests that this takes, where there is a server to ask.
pub fn follow(
    config: &Config,
    changes: mpsc::Sender<Change>,
    status: watch::Sender<SourceStatus>,
    observer: kube::Observer,
) {
    match config.source() {
        Source::Manifests { dir } => {
            let proxy_name = config.k8s.service_proxy_name.clone();
            tokio::spawn(manifests::run(dir, proxy_name, changes, status));
        }
        Source::Kube(server) => {
            let options = kube::Options { observer, ..options(config, server) };
            tokio::spawn(async move {
                if let Err(error) = kube::run(options, changes, status.clone()).await {
                    let message = chain(&error);
                    tracing::error!("cannot follow the API server: {message}");
                    status.send_modify(|status| {
                        status.connected = false;
                        status.problems = vec![Problem { subject: "API server".into(), message }];
                    });
                }
            });
        }
    }
}

fn options(config: &Config, server: config::Kubernetes) -> kube::Options {
    kube::Options {
        host: server.service_host,
        port: Some(server.service_port),
        servers: server.api_server_urls,
        kubeconfig: server.kubeconfig,
        proxy_name: server.service_proxy_name,
        ..kube::Options::new(config.node_name.clone())
    }
}

/// What a source says at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// One [`Change::Listed`] a kind.
    pub lists: Vec<Change>,
    /// Objects that cannot be used.
    pub problems: Vec<Problem>,
}

/// All of `kinds` as the source has them now: the same code reads them as for [`follow`], over a
/// connection of its own.
///
/// # Errors
/// The source does not answer, or does not list one of them.
pub async fn snapshot(config: &Config, kinds: &[Kind]) -> Result<Snapshot> {
    let (sender, mut changes) = mpsc::channel(64);
    let (status_sender, status) = watch::channel(SourceStatus::default());
    follow(config, sender, status_sender, kube::Observer::default());
    let mut snapshot = Snapshot::default();
    let mut missing = kinds.to_vec();
    while !missing.is_empty() {
        match timeout(SILENCE, changes.recv()).await {
            Ok(Some(Change::Listed(kind, objects))) => {
                if missing.contains(&kind) {
                    missing.retain(|other| *other != kind);
                    snapshot.lists.push(Change::Listed(kind, objects));
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                let status = status.borrow();
                let why = status.problems.first().map_or("it says nothing", |p| &p.message);
                bail!("`{}` does not list {}: {why}", status.name, missing[0].name());
            }
        }
    }
    let problems = status.borrow().problems.clone();
    // Kinds that the server refuses are in `status`, and nobody knows any of them.
    let of_objects = |problem: &Problem| !problem.subject.starts_with("API server");
    snapshot.problems = problems.into_iter().filter(of_objects).collect();
    Ok(snapshot)
}

/// Why the agent does not serve a service that somebody asks for.
pub async fn why_not(config: &Config, name: &ObjectName) -> String {
    let found = match config.source() {
        Source::Manifests { dir } => {
            let (proxy_name, name) = (config.k8s.service_proxy_name.clone(), name.clone());
            let find = move || manifests::find(Path::new(&dir), proxy_name.as_deref(), &name);
            match spawn_blocking(find).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => return format!("the manifests cannot be read: {error}"),
                Err(_) => return "the agent is stopping".to_owned(),
            }
        }
        Source::Kube(server) => match kube::find(options(config, server), name).await {
            Ok(found) => found,
            Err(error) => return format!("the API server does not say: {}", chain(&error)),
        },
    };
    match found {
        Found::Nothing => format!("the source has no such Service: `{name}`"),
        Found::Ours => {
            "the source has it and the agent does not know it (yet); see `culvert check`".to_owned()
        }
        Found::Unusable(why) => format!("the Service cannot be used: {why}"),
        Found::NotOurs(NotOurs::Headless) => {
            "the Service is headless: DNS gives clients the addresses of its pods".to_owned()
        }
        Found::NotOurs(NotOurs::ExternalName) => {
            "the Service is an ExternalName: DNS gives clients another name".to_owned()
        }
        Found::NotOurs(_) => "the Service is another proxy's: its label \
             `service.kubernetes.io/service-proxy-name` is not `k8s.serviceProxyName`"
            .to_owned(),
    }
}
