// SPDX-License-Identifier: Apache-2.0
//! Sees every exchange with the server: notices answers, and does not wait for ever.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tower::{BoxError, Layer, Service};

/// Wraps a client's transport.
#[derive(Clone)]
pub(super) struct LinkLayer {
    deadline: Duration,
    answered: Arc<dyn Fn() + Send + Sync>,
}

impl LinkLayer {
    pub fn new(deadline: Duration, answered: impl Fn() + Send + Sync + 'static) -> Self {
        Self { deadline, answered: Arc::new(answered) }
    }
}

impl fmt::Debug for LinkLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkLayer").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for LinkLayer {
    type Service = Link<S>;

    fn layer(&self, inner: S) -> Link<S> {
        Link { inner, layer: self.clone() }
    }
}

#[derive(Debug)]
pub(super) struct Link<S> {
    inner: S,
    layer: LinkLayer,
}

impl<S, In, Out> Service<Request<In>> for Link<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Out>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Out>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let answer = self.inner.call(request);
        let LinkLayer { deadline, answered } = self.layer.clone();
        Box::pin(async move {
            // Only up to the head of the answer: a watch's body lasts as long as the watch.
            let answer = match tokio::time::timeout(deadline, answer).await {
                Ok(answer) => answer.map_err(Into::into)?,
                Err(_) => return Err(format!("no answer within {deadline:?}").into()),
            };
            if answer.status().is_success() {
                answered();
            }
            Ok(answer)
        })
    }
}
