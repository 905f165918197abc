// SPDX-License-Identifier: Apache-2.0
//! The kube source over TLS: as a pod finds its API server, and by kubeconfig.

use std::fs;
use std::path::Path;

use culvert::k8s::kube::Options;
use culvert::model::{Kind, SourceStatus};
use serde_json::{Value, json};

use super::objects::{follow, options, port, service};
use crate::support::apiserver::{ApiServer, Authority};

/// A service account's directory.
pub fn account(ca: &str, token: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("ca.crt"), ca).unwrap();
    fs::write(directory.path().join("token"), token).unwrap();
    directory
}

pub fn in_cluster(server: &ApiServer, account: &Path) -> Options {
    Options { service_account: account.into(), ..options(server) }
}

#[tokio::test]
async fn a_pods_token_and_authority_reach_the_server() {
    let authority = Authority::new();
    let server = ApiServer::start_tls(&authority).await;
    server.require_token("secret");
    server.set(service("web", 80));
    let account = account(authority.pem(), "secret");
    let mut listener = follow(in_cluster(&server, account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(listener.world.names(Kind::Service), "shop/web");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let server = ApiServer::start_tls(&Authority::new()).await;
    server.set(service("web", 80));
    let account = account(Authority::new().pem(), "secret");
    let mut listener = follow(in_cluster(&server, account.path()));
    let status = listener.until_status("a problem", |status| !status.problems.is_empty()).await;
    let named = |problem: &culvert::model::Problem| problem.message.contains("certificate");
    assert!(status.problems.iter().any(named), "{status:?}");
    assert!(!status.connected);
    assert!(server.requests().is_empty(), "a token was sent to a stranger");
}

#[tokio::test]
async fn a_kubeconfig_names_server_authority_and_token() {
    let authority = Authority::new();
    let server = ApiServer::start_tls(&authority).await;
    server.require_token("secret");
    server.set(service("web", 80));
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("authority.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let path = directory.path().join("config");
    fs::write(&path, kubeconfig(&server.url(), &ca).to_string()).unwrap();

    let options = Options { kubeconfig: Some(path), ..Options::new("n1") };
    let mut listener = follow(options);
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(listener.world.names(Kind::Service), "shop/web");
}

#[tokio::test]
async fn a_watch_that_is_cut_is_counted_and_goes_on_and_one_that_ends_is_not() {
    let authority = Authority::new();
    for server in [ApiServer::start().await, ApiServer::start_tls(&authority).await] {
        server.set(service("web", 80));
        let account = account(authority.pem(), "secret");
        let mut listener = follow(in_cluster(&server, account.path()));
        listener.until("all kinds", |world| world.listed.len() == 4).await;
        listener.world.log.clear();
        server.end_watches();
        server.set(service("web", 81));
        listener.until("the change", |world| port(world, "web") == Some(81)).await;
        let status = listener.until_status("connected", |status| status.connected).await;
        assert_eq!(status.troubles.len(), 0, "{status:?}");

        server.drop_connections();
        let cut = |status: &SourceStatus| {
            status.troubles.get(&(Kind::Service, "connection")).is_some_and(|count| *count == 1)
        };
        listener.until_status("the cut", cut).await;
        listener.until_status("its end", |s| s.connected && s.problems.is_empty()).await;
        server.set(service("web", 82));
        listener.until("the next change", |world| port(world, "web") == Some(82)).await;
        assert_eq!(listener.world.log, ["set Service(shop/web)"; 2], "listed anew");
    }
}

fn kubeconfig(server: &str, ca: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
    })
}
