// SPDX-License-Identifier: Apache-2.0
//! The agent's local API on a unix socket: `/v1/status`, `/v1/services`, `/v1/explain`, `/v1/check`,
//! `/v1/monitor` and `/v1/cni/<call>`.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tracing::warn;

use super::Shared;
use super::http::{self, Answer, Limits};
use super::questions;
use super::tracing::Tracing;
use crate::agent::Command;
use crate::cni::api::{Call, Error, code};
use crate::datapath::Maps;
use crate::view;

/// The control loop writes maps and netlink between commands; a call that waits longer than this
/// is given back to the runtime, which tries again.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves until the listener's task is dropped.
pub async fn serve(listener: UnixListener, shared: Shared) {
    let (limits, tracing) = (Limits::new(), Tracing::default());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a local connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (shared, tracing) = (shared.clone(), tracing.clone());
        let handle = move |request| {
            let (shared, tracing) = (shared.clone(), tracing.clone());
            async move { respond(request, &shared, &tracing).await.unwrap_or_else(|refused| *refused) }
        };
        limits.serve(stream, handle).await;
    }
}

async fn respond(
    request: Request<Incoming>,
    shared: &Shared,
    tracing: &Tracing,
) -> Result<Answer, Box<Answer>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if let Some(name) = path.strip_prefix("/v1/cni/") {
        return cni(name, request, shared).await;
    }
    http::only(&Method::GET, &method)?;
    match path.as_str() {
        "/v1/status" => {
            let status = shared.agent.status.borrow().clone();
            Ok(http::json(StatusCode::OK, &*status))
        }
        "/v1/services" => services(shared).await,
        "/v1/explain" => {
            questions::explain(request.uri().query().unwrap_or_default(), shared).await
        }
        "/v1/check" => questions::check(shared).await,
        "/v1/monitor" => monitor(request.uri().query(), shared, tracing),
        _ => Err(Box::new(http::refuse(StatusCode::NOT_FOUND, &format!("there is no `{path}`")))),
    }
}

async fn services(shared: &Shared) -> Result<Answer, Box<Answer>> {
    let maps = shared.maps.clone();
    let rows = tokio::task::spawn_blocking(move || read_services(&maps)).await;
    let broken = |text: String| Box::new(http::refuse(StatusCode::INTERNAL_SERVER_ERROR, &text));
    let rows = rows.map_err(|e| broken(e.to_string()))?.map_err(|e| broken(e.to_string()))?;
    Ok(http::json(StatusCode::OK, &rows))
}

/// The service table as the datapath sees it.
pub fn read_services(maps: &Maps) -> Result<Vec<view::ServiceRow>, crate::datapath::map::Error> {
    Ok(view::service_rows(
        &maps.services.entries()?,
        &maps.backends.entries()?,
        &maps.owned.entries()?,
    ))
}

async fn cni(
    name: &str,
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Answer, Box<Answer>> {
    let asks = name == "status" && request.method() == Method::GET;
    if !asks {
        http::only(&Method::POST, request.method())?;
    }
    let body = http::read_body(request).await?;
    let call = match Call::parse(name, &body) {
        Ok(call) => call,
        Err(error) if error.code == code::DECODE => {
            return Ok(http::json(StatusCode::BAD_REQUEST, &error));
        }
        Err(error) => return Ok(http::json(StatusCode::NOT_FOUND, &error)),
    };
    match dispatch(call, shared).await {
        Ok(reply) => Ok(http::json(StatusCode::OK, &reply)),
        Err(error) if matches!(error.code, code::TRY_AGAIN | code::NOT_AVAILABLE) => {
            Ok(http::json(StatusCode::SERVICE_UNAVAILABLE, &error))
        }
        Err(error) => Ok(http::json(StatusCode::CONFLICT, &error)),
    }
}

async fn dispatch(call: Call, shared: &Shared) -> Result<crate::cni::api::Reply, Error> {
    let (reply, answer) = oneshot::channel();
    let later = |why: &str| Error::new(code::TRY_AGAIN, why);
    let asked = async {
        shared
            .agent
            .commands
            .send(Command::Cni { call, reply })
            .await
            .map_err(|_| later("the agent is stopping"))?;
        answer.await.map_err(|_| later("the agent is stopping"))?
    };
    tokio::time::timeout(CALL_TIMEOUT, asked)
        .await
        .unwrap_or_else(|_| Err(later("the agent is busy; try again")))
}

/// One JSON line an event, for as long as the client reads. `?trace=from_netdev,to_netdev` also
/// traces the packets of those hooks.
fn monitor(query: Option<&str>, shared: &Shared, tracing: &Tracing) -> Result<Answer, Box<Answer>> {
    let bad = |text: String| Box::new(http::refuse(StatusCode::BAD_REQUEST, &text));
    let mut hooks = 0;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let Some(list) = pair.strip_prefix("trace=") else {
            return Err(bad(format!("there is no parameter `{pair}`; there is `trace`")));
        };
        hooks |= view::hook_mask(list.split(',')).map_err(bad)?;
    }

    let events = shared.agent.events.subscribe();
    let wish = (hooks != 0).then(|| tracing.wish(hooks, shared.agent.commands.clone()));
    let lines = stream::unfold((events, wish), |(mut events, wish)| async move {
        let mut line = match events.recv().await {
            Ok(event) => serde_json::to_vec(&view::EventView::from(&event)),
            Err(RecvError::Lagged(lost)) => serde_json::to_vec(&serde_json::json!({"lost": lost})),
            Err(RecvError::Closed) => return None,
        }
        .ok()?;
        line.push(b'\n');
        let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(line)));
        Some((frame, (events, wish)))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
