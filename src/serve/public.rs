// SPDX-License-Identifier: Apache-2.0
//! `:1025`: `/healthz`, `/livez`, `/readyz`, `/metrics`, and kube-proxy's `/proxyMode`.

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

/// Listens on those of `addresses` that are free, and says of each other why not.
///
/// # Errors
/// None can be listened on; the error names them.
pub async fn bind(addresses: &[SocketAddr]) -> io::Result<(Vec<TcpListener>, Vec<io::Error>)> {
    let (mut listeners, mut refused) = (Vec::new(), Vec::new());
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => refused.push((address, error)),
        }
    }
    let say = |(address, error): &(&SocketAddr, io::Error)| {
        format!("cannot listen on `{address}` ({error})")
    };
    let advice = "free it and restart the agent, or change `kubeProxyReplacementHealthzBindAddr`";
    match refused.first() {
        Some((_, first)) if listeners.is_empty() => {
            let all: Vec<String> = refused.iter().map(say).collect();
            Err(io::Error::new(first.kind(), format!("{}; {advice}", all.join(", "))))
        }
        _ => {
            let told = |each| io::Error::other(format!("{}; {advice}", say(&each)));
            Ok((listeners, refused.into_iter().map(told).collect()))
        }
    }
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
        "/proxyMode" => http::answer(StatusCode::OK, "text/plain", b"ebpf".to_vec()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_named_and_the_others_are_listened_on() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let holder = TcpListener::bind(any).await.unwrap();
        let taken = holder.local_addr().unwrap();
        let (listeners, refused) = bind(&[any, taken, any]).await.unwrap();
        assert_eq!(listeners.len(), 2);
        let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with(&format!("cannot listen on `{taken}` (")), "{said:?}");

        let error = bind(&[taken, taken]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string().matches(&taken.to_string()).count(), 2, "{error}");
    }
}
