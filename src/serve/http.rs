// SPDX-License-Identifier: Apache-2.0
//! The HTTP/1.1 both servers share: answers, limits, and one task a connection.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tracing::debug;

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Answer = Response<Body>;

/// Largest request body; a GC call of a full node is far below.
const BODY_MAX: usize = 1 << 20;
/// A client must have sent its headers, and then its body, within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections served at once; more wait in the listener's queue.
const CONNECTIONS: usize = 256;

/// Gives out the right to hold one more connection.
#[derive(Clone, Debug)]
pub(super) struct Limits(Arc<Semaphore>);

impl Limits {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTIONS)))
    }

    /// Serves `stream` in a task of its own, once there is room.
    pub(super) async fn serve<S, F, Fut>(&self, stream: S, handle: F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let Ok(permit) = self.0.clone().acquire_owned().await else { return };
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                debug!(%error, "a client went away");
            }
            drop(permit);
        });
    }
}

/// The whole body of a request, or the answer that refuses it.
pub(super) async fn read_body(request: Request<Incoming>) -> Result<Bytes, Box<Answer>> {
    let body = Limited::new(request.into_body(), BODY_MAX).collect();
    match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Box::new(refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body is larger than {BODY_MAX} bytes"),
        ))),
        Ok(Err(error)) => Err(Box::new(refuse(StatusCode::BAD_REQUEST, &error.to_string()))),
        Err(_) => Err(Box::new(refuse(StatusCode::REQUEST_TIMEOUT, "the body did not arrive"))),
    }
}

/// Refuses another method than `allowed`; HEAD passes where GET does.
pub(super) fn only(allowed: &Method, method: &Method) -> Result<(), Box<Answer>> {
    if method == allowed || (allowed == Method::GET && method == Method::HEAD) {
        return Ok(());
    }
    let message = format!("`{method}` is not allowed here; use `{allowed}`");
    let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, &message);
    if let Ok(value) = HeaderValue::from_str(allowed.as_str()) {
        answer.headers_mut().insert(hyper::header::ALLOW, value);
    }
    Err(Box::new(answer))
}

/// `{"error": message}`.
pub(super) fn refuse(status: StatusCode, message: &str) -> Answer {
    json(status, &serde_json::json!({ "error": message }))
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(status, "application/json", body),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(super) fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut response = Response::new(Full::from(body).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
