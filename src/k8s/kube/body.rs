// SPDX-License-Identifier: Apache-2.0
//! The body of an answer that may go on for minutes: tells of every sign of life, and ends when
//! its server is given up.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tower::BoxError;

use super::servers::Servers;

pub(super) struct Watched {
    body: Incoming,
    servers: Arc<Servers>,
    number: usize,
    /// Done when the server is given up.
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Called when the connection ends before the answer does.
    cut_off: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Watched {
    pub fn new(body: Incoming, servers: Arc<Servers>, number: usize) -> Self {
        let mut cut = servers.opened(number);
        let cut = async move {
            if cut.changed().await.is_err() {
                // Nobody is left who could say so.
                std::future::pending::<()>().await;
            }
        };
        Self { body, servers, number, cut: Box::pin(cut), cut_off: None }
    }

    pub fn telling(mut self, cut_off: Arc<dyn Fn() + Send + Sync>) -> Self {
        self.cut_off = Some(cut_off);
        self
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.servers.closed(self.number);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The `kube` crate takes such an end for that of the watch, and resumes it without a word.
fn is_resumed_in_silence(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(each) = cause {
        let io = each.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = each.source();
    }
    false
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.servers.heard(self.number);
            if let (Some(Err(error)), Some(cut_off)) = (&frame, &self.cut_off)
                && is_resumed_in_silence(error)
            {
                cut_off();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.cut.as_mut().poll(cx).map(|()| Some(Err("the server fell silent".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
