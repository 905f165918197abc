// SPDX-License-Identifier: Apache-2.0
//! Carries every request of the four watches: chooses the server, proves who we are, and does not
//! wait for ever.
//!
//! A request that one server leaves unanswered goes on to the next at once, so that a watch is
//! resumed on another server from where it was: versions are the cluster's, not a server's.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::kube::Config;
use ::kube::client::{Body, ConfigExt as _};
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response, Uri, request};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Mutex;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use super::Error;
use super::body::Watched;
use super::client::Options;
use super::observer::Exchange;
use super::servers::Servers;

/// A connection on which nothing was acknowledged for about 25 s is closed by the kernel, which
/// finds what a probe of the server cannot: the one connection that a router on the way forgot.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// One attempt where another server could be asked instead.
const NEXT_SERVER: Duration = Duration::from_secs(5);

/// Asked of a server that has been silent. Open to everyone who is authenticated, and never
/// queued behind other requests (flow schema `probes`).
const PROBE: &str = "/readyz";

/// See the module's words.
#[derive(Debug)]
pub(super) struct Transport {
    options: Options,
    pub servers: Arc<Servers>,
    /// None: to be made anew from the files, which may have changed.
    stack: Mutex<Option<Stack>>,
}

/// What a request goes through below the choice of the server.
#[derive(Clone)]
struct Stack {
    service: BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>,
    /// Holds the bearer token; read for every request, since it rotates.
    token: Option<PathBuf>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Stack {
    async fn new(options: &Options) -> Result<Self, Error> {
        let connection = options.connection().await?;
        let service = service(connection.config, options.answer_timeout).map_err(|source| {
            let server = connection.servers[0].to_string();
            Error::Client { server, source: Box::new(source) }
        })?;
        Ok(Self { service, token: connection.token })
    }

    async fn send(self, mut request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        if let Some(path) = &self.token {
            let token = fs::read_to_string(path)
                .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.service.oneshot(request).await
    }
}

impl Transport {
    /// # Errors
    /// No client can be made of the options.
    pub async fn new(options: Options, servers: Arc<Servers>) -> Result<Self, Error> {
        let stack = Stack::new(&options).await?;
        Ok(Self { options, servers, stack: Mutex::new(Some(stack)) })
    }

    /// Reads certificates and credentials again before the next request.
    pub async fn forget(&self) {
        *self.stack.lock().await = None;
    }

    async fn stack(&self) -> Result<Stack, Error> {
        let mut stack = self.stack.lock().await;
        if stack.is_none() {
            *stack = Some(Stack::new(&self.options).await?);
        }
        Ok(stack.clone().expect("made just now"))
    }

    /// Asks one server after the other. An answer that blames the server (5xx) is the answer only
    /// if no other has a better one.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Watched>, BoxError> {
        let (head, _) = request.into_parts();
        let order = self.servers.order();
        let mut outcome = Err("no API server is named".into());
        for (asked, &number) in order.iter().enumerate() {
            let all = self.options.answer_timeout;
            let last = asked + 1 == order.len();
            let deadline = if last { all } else { all.min(NEXT_SERVER) };
            outcome = self.ask(number, &head, deadline).await;
            match &outcome {
                Ok(answer) if answer.status().is_server_error() => {}
                Ok(_) => return outcome,
                // A rotated authority shows as a failure to connect.
                Err(_) => self.forget().await,
            }
        }
        outcome
    }

    async fn ask(
        &self,
        number: usize,
        head: &request::Parts,
        deadline: Duration,
    ) -> Result<Response<Watched>, BoxError> {
        let answer = self.attempt(number, head, deadline).await;
        match &answer {
            Ok(answer) if answer.status().is_server_error() => {
                self.servers.failed(number, &format!("answers {}", answer.status()));
            }
            Ok(_) => self.servers.answered(number),
            Err(error) => self.servers.failed(number, &deepest(error.as_ref())),
        }
        Ok(answer?.map(|body| Watched::new(body, Arc::clone(&self.servers), number)))
    }

    async fn attempt(
        &self,
        number: usize,
        head: &request::Parts,
        deadline: Duration,
    ) -> Result<Response<Incoming>, BoxError> {
        let (server, started) = (self.servers.uri(number), Instant::now());
        let attempt = async {
            let mut request = Request::new(Body::empty());
            *request.method_mut() = head.method.clone();
            *request.headers_mut() = head.headers.clone();
            *request.uri_mut() = join(&server, &head.uri)?;
            self.stack().await?.send(request).await
        };
        // Only up to the head of the answer: a watch's body lasts as long as the watch.
        let answer = match tokio::time::timeout(deadline, attempt).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {deadline:?}").into()),
        };
        self.options.observer.tell(&Exchange {
            method: head.method.as_str(),
            host: server.authority().map_or("", |authority| authority.as_str()),
            code: answer.as_ref().ok().map(|answer| answer.status().as_u16()),
            took: started.elapsed(),
        });
        answer
    }

    /// Asks servers that owe an answer and have said nothing for [`Options::silence`] whether they
    /// are still there, and gives up what is open at those that are not. Runs for ever.
    pub async fn watch_silence(&self) {
        let silence = self.options.silence;
        let (head, ()) = Request::get(PROBE).body(()).expect("a path is a URI").into_parts();
        loop {
            tokio::time::sleep(silence / 2).await;
            for number in self.servers.silent(silence) {
                match self.attempt(number, &head, silence).await {
                    // Also an answer that it is not ready, or that we may not ask.
                    Ok(_) => self.servers.heard(number),
                    Err(error) => {
                        self.servers.failed(number, &deepest(error.as_ref()));
                        self.servers.cut(number);
                    }
                }
            }
        }
    }
}

/// `path` of a request at `server`, which may have a path of its own.
fn join(server: &Uri, request: &Uri) -> Result<Uri, BoxError> {
    let base = server.path().trim_end_matches('/');
    let wanted = request.path_and_query().map_or("/", |path| path.as_str());
    let mut parts = server.clone().into_parts();
    parts.path_and_query = Some(format!("{base}{wanted}").parse()?);
    Ok(Uri::from_parts(parts)?)
}

fn service(
    config: Config,
    connect_timeout: Duration,
) -> Result<BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>, ::kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(KEEPALIVE + KEEPALIVE_INTERVAL * KEEPALIVE_RETRIES));
    if let Some(proxy_url) = config.proxy_url {
        return Err(::kube::Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy_url) });
    }
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let client: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(BoxCloneSyncService::new(service.map_err(BoxError::from)))
}

/// What went wrong in the end.
pub(super) fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_below_a_path_keeps_it() {
        for (server, request, joined) in [
            ("https://a:6443", "/api/v1/pods?limit=5", "https://a:6443/api/v1/pods?limit=5"),
            ("https://a/k8s/c1/", "/readyz", "https://a/k8s/c1/readyz"),
        ] {
            let uri = join(&server.parse().unwrap(), &request.parse().unwrap()).unwrap();
            assert_eq!(uri.to_string(), joined);
        }
    }
}
