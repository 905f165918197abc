// SPDX-License-Identifier: Apache-2.0
//! A test API server: lists in pages, watches, bookmarks, streamed lists and errors in the shapes
//! that `tests/fixtures/apiserver-1.36` records, and every way of failing that we know of.
//!
//! It listens on a loopback port of the network namespace of the thread that starts it.

mod answer;
mod store;
mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub use store::Resource;
use store::Store;
pub use tls::Authority;

/// How the server behaves.
#[derive(Clone, Debug)]
struct Manners {
    streamed_lists: bool,
    /// Accepts and never answers; open watches fall silent.
    half_dead: bool,
    delay: Duration,
    loses_events: bool,
    forbidden: BTreeSet<Resource>,
    token: Option<String>,
    /// Answers everything with this status.
    broken: Option<u16>,
}

#[derive(Debug)]
struct Shared {
    /// The cluster's, which several servers may have in common.
    store: Arc<Mutex<Store>>,
    manners: Mutex<Manners>,
    /// Path and query of each request.
    requests: Mutex<Vec<String>>,
    /// Moves when there is something for the watches to look at.
    news: Arc<watch::Sender<u64>>,
    /// Moves when bookmarks are to be sent.
    bookmarks: watch::Sender<u64>,
    /// Moves when all watches are to end.
    ends: watch::Sender<u64>,
    /// Moves when all connections are to be cut.
    cut: watch::Sender<u64>,
}

pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    accepting: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Speaks plain HTTP.
    pub async fn start() -> Self {
        Self::listen(None, None).await
    }

    /// Speaks HTTPS with a certificate of `authority` for its address.
    pub async fn start_tls(authority: &Authority) -> Self {
        Self::listen(Some(authority.acceptor()), None).await
    }

    /// Another server of the same cluster.
    pub async fn start_beside(&self, authority: &Authority) -> Self {
        Self::listen(Some(authority.acceptor()), Some(&self.shared)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, beside: Option<&Shared>) -> Self {
        let manners = Manners {
            streamed_lists: true,
            half_dead: false,
            delay: Duration::ZERO,
            loses_events: false,
            forbidden: BTreeSet::new(),
            token: None,
            broken: None,
        };
        let shared = Arc::new(Shared {
            store: beside.map(|other| Arc::clone(&other.store)).unwrap_or_default(),
            manners: Mutex::new(manners),
            requests: Mutex::default(),
            news: beside.map(|other| Arc::clone(&other.news)).unwrap_or_default(),
            bookmarks: watch::Sender::new(0),
            ends: watch::Sender::new(0),
            cut: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Some(tokio::spawn(accept(listener, tls.clone(), Arc::clone(&shared))));
        Self { shared, address, tls, accepting }
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Creates or replaces an object.
    pub fn set(&self, object: Value) {
        self.shared.store.lock().unwrap().set(object);
        bump(&self.shared.news);
    }

    /// Deletes an object that is there. `namespace` is empty for nodes.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) {
        self.shared.store.lock().unwrap().delete(resource, namespace, name);
        bump(&self.shared.news);
    }

    /// Forgets history: who resumes a watch gets an `ERROR` event, who asks for the next page an
    /// HTTP 410.
    pub fn expire_history(&self) {
        self.shared.store.lock().unwrap().expire();
    }

    /// Lets go of what every watch has been sent. Nobody may be resuming.
    pub fn forget_history(&self) {
        self.shared.store.lock().unwrap().forget();
    }

    /// Sends a bookmark on every watch.
    pub fn bookmark(&self) {
        bump(&self.shared.bookmarks);
    }

    /// Ends every watch in order, as the server does after `timeoutSeconds`.
    pub fn end_watches(&self) {
        bump(&self.shared.ends);
    }

    /// Cuts every connection, whatever is under way on it.
    pub fn drop_connections(&self) {
        bump(&self.shared.cut);
    }

    /// Refuses connections until [`Self::come_back`].
    pub async fn go_away(&mut self) {
        if let Some(task) = self.accepting.take() {
            task.abort();
            let _ = task.await;
        }
        self.drop_connections();
        // Until the last has ended, what is set now might still be told.
        self.shared.cut.closed().await;
    }

    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let accepting = accept(listener, self.tls.clone(), Arc::clone(&self.shared));
        self.accepting = Some(tokio::spawn(accepting));
    }

    /// Presents certificates of another authority from the next connection on.
    pub async fn certify(&mut self, authority: &Authority) {
        self.go_away().await;
        self.tls = Some(authority.acceptor());
        self.come_back().await;
    }

    /// Answers everything with this status.
    pub fn broken(&self, status: Option<u16>) {
        self.shared.manners.lock().unwrap().broken = status;
    }

    /// Accepts and never answers; open watches fall silent.
    pub fn half_dead(&self, yes: bool) {
        self.shared.manners.lock().unwrap().half_dead = yes;
    }

    /// How long each answer takes to begin.
    pub fn delay(&self, delay: Duration) {
        self.shared.manners.lock().unwrap().delay = delay;
    }

    /// Open watches are not told what changes, and never will be; lists are right.
    pub fn lose_events(&self, yes: bool) {
        self.shared.manners.lock().unwrap().loses_events = yes;
    }

    /// Answers 403 for `resource`.
    pub fn forbid(&self, resource: Resource) {
        self.shared.manners.lock().unwrap().forbidden.insert(resource);
    }

    pub fn permit(&self, resource: Resource) {
        self.shared.manners.lock().unwrap().forbidden.remove(&resource);
    }

    /// Answers 401 to everyone who does not bring this bearer token.
    pub fn require_token(&self, token: &str) {
        self.shared.manners.lock().unwrap().token = Some(token.to_owned());
    }

    /// Whether `sendInitialEvents` is known, as it is from Kubernetes 1.32 on by default.
    pub fn streamed_lists(&self, yes: bool) {
        self.shared.manners.lock().unwrap().streamed_lists = yes;
    }

    /// Path and query of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }
}

fn bump(counter: &watch::Sender<u64>) {
    counter.send_modify(|count| *count += 1);
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (shared, cut) = (Arc::clone(&shared), shared.cut.subscribe());
        match tls.clone() {
            None => drop(tokio::spawn(serve(stream, shared, cut))),
            Some(tls) => drop(tokio::spawn(async move {
                // A client that refuses the certificate closes here.
                if let Ok(stream) = tls.accept(stream).await {
                    serve(stream, shared, cut).await;
                }
            })),
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: Arc<Shared>,
    mut cut: watch::Receiver<u64>,
) {
    let service = service_fn(move |request| answer::answer(Arc::clone(&shared), request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        _ = cut.changed() => {}
        // The client closing, or a body cut short, is no business of the server's.
        _ = connection => {}
    }
}
