// SPDX-License-Identifier: Apache-2.0
//! Tells somebody of each request, for metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One request to one server, up to the head of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    pub method: &'a str,
    /// `10.0.0.1:6443`.
    pub host: &'a str,
    /// None: no answer came.
    pub code: Option<u16>,
    pub took: Duration,
}

/// Is told of every request, also of those that other servers are asked after. Must not block.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Tell>>);

type Tell = dyn Fn(&Exchange<'_>) + Send + Sync;

impl Observer {
    pub fn new(tell: impl Fn(&Exchange<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(super) fn tell(&self, exchange: &Exchange<'_>) {
        if let Some(tell) = &self.0 {
            tell(exchange);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
