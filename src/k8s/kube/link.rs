// SPDX-License-Identifier: Apache-2.0
//! One kind's way to the servers: the shared transport, and the news that the server answers, or
//! that an answer was cut off.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::kube::Client;
use ::kube::client::Body;
use http::{Request, Response};
use tower::{BoxError, Service};

use super::body::Watched;
use super::transport::Transport;

#[derive(Clone)]
struct Link {
    transport: Arc<Transport>,
    answered: Arc<dyn Fn() + Send + Sync>,
    cut_off: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// A client that calls `answered` whenever a server answers as it should, and `cut_off` when the
/// connection ends in the middle of an answer, of which the watcher says nothing.
pub(super) fn client(
    transport: Arc<Transport>,
    answered: impl Fn() + Send + Sync + 'static,
    cut_off: impl Fn() + Send + Sync + 'static,
) -> Client {
    let (answered, cut_off) = (Arc::new(answered), Arc::new(cut_off));
    Client::new(Link { transport, answered, cut_off }, "default")
}

impl Service<Request<Body>> for Link {
    type Response = Response<Watched>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Watched>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { transport, answered, cut_off } = self.clone();
        Box::pin(async move {
            let answer = transport.send(request).await?;
            if answer.status().is_success() {
                answered();
            }
            Ok(answer.map(|body| body.telling(cut_off)))
        })
    }
}
