// SPDX-License-Identifier: Apache-2.0
//! `:1025`: `/healthz`, `/livez`, `/readyz` and `/metrics`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::net::TcpListener;
use tracing::warn;

use super::http::{self, Answer, Limits};
use super::{Health, Metrics, Shared};
use crate::agent::status::Status;

/// Listens on `address`; the error names it.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let text = format!(
            "cannot listen on `{address}` ({error}); free it or change \
             `kubeProxyReplacementHealthzBindAddr`"
        );
        io::Error::new(error.kind(), text)
    })
}

/// Serves until the listener's task is dropped.
pub async fn serve(listener: TcpListener, shared: Shared) {
    let limits = Limits::new();
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: others may give some back.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = shared.clone();
        let handle = move |request: hyper::Request<_>| {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let shared = shared.clone();
            async move { respond(&method, &path, &shared).await }
        };
        limits.serve(stream, handle).await;
    }
}

async fn respond(method: &Method, path: &str, shared: &Shared) -> Answer {
    if let Err(refused) = http::only(&Method::GET, method) {
        return *refused;
    }
    match path {
        "/healthz" => healthz(&shared.health, &shared.metrics),
        "/livez" => livez(&shared.health, &shared.metrics),
        "/readyz" => readyz(&shared.agent.status.borrow().clone()),
        "/metrics" => metrics(shared).await,
        _ => http::refuse(StatusCode::NOT_FOUND, &format!("there is no `{path}`")),
    }
}

fn healthz(health: &Health, metrics: &Metrics) -> Answer {
    let verdict = health.verdict();
    let status = code(verdict.serves());
    metrics.healthz(status.as_u16());
    http::answer(status, "application/json", verdict.healthz_body())
}

/// As `/healthz`, but a node that leaves is still alive.
fn livez(health: &Health, metrics: &Metrics) -> Answer {
    let verdict = health.verdict();
    let status = code(verdict.healthy);
    metrics.livez(status.as_u16());
    http::answer(status, "application/json", verdict.livez_body())
}

fn readyz(status: &Arc<Status>) -> Answer {
    let body = serde_json::json!({ "ready": status.ready, "waitingFor": status.waiting_for });
    http::json(code(status.ready), &body)
}

async fn metrics(shared: &Shared) -> Answer {
    let status = shared.agent.status.borrow().clone();
    let (metrics, maps) = (shared.metrics.clone(), shared.maps.clone());
    // Reading 19 x 8 per-CPU counters is some hundred system calls.
    let text = tokio::task::spawn_blocking(move || metrics.render(&status, &maps)).await;
    match text {
        Ok(Ok(text)) => http::answer(StatusCode::OK, "text/plain; version=0.0.4", text.into()),
        Ok(Err(error)) => http::refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
        Err(error) => http::refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
