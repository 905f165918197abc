// SPDX-License-Identifier: Apache-2.0
//! Asking the agent over its socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::error::Hint;

/// A healthy agent answers at once, also one that is busy writing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An agent that answers.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    timeout: Duration,
}

impl Client {
    /// Fails with a hint when there is no agent.
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        match UnixStream::connect(socket).await {
            Ok(stream) => Ok(Self { stream, timeout: TIMEOUT }),
            Err(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                let message = format!("the agent does not answer on `{}`", socket.display());
                let hint = "is it running? `culvert service list` and `culvert bpf` read the maps \
                            it left behind"
                    .to_owned();
                Err(anyhow::Error::new(source).context(Hint { message, hint }))
            }
            Err(source) => Err(anyhow::Error::new(source)
                .context(format!("cannot connect to the agent at `{}`", socket.display()))),
        }
    }

    /// For questions that take the agent longer.
    pub(super) fn patient(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The answer to a GET, headers only.
    pub(super) async fn open(self, path: &str) -> Result<Response<Incoming>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream))
            .await
            .context("the agent does not speak HTTP")?;
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, "culvert").body(Empty::<Bytes>::new())?;
        let response = tokio::time::timeout(self.timeout, sender.send_request(request))
            .await
            .context("the agent accepted the connection and does not answer")?
            .context("the agent hung up")?;
        if !response.status().is_success() {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            bail!("the agent answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response)
    }

    pub(super) async fn get<T: DeserializeOwned>(self, path: &str) -> Result<T> {
        let body = self.open(path).await?.into_body().collect();
        let body =
            tokio::time::timeout(TIMEOUT, body).await.context("the answer does not end")??;
        serde_json::from_slice(&body.to_bytes()).context("cannot read the agent's answer")
    }
}

/// A runtime for one exchange.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}
