// SPDX-License-Identifier: Apache-2.0
//! The agent's servers over real sockets, in front of real maps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use culvert::abi::{EVENT_DROP, Event, Hook, Outcome};
use culvert::agent::status::Status;
use culvert::agent::{Command, Handle};
use culvert::cni::api::{Allocation, Error, Reply, code};
use culvert::datapath::Datapath;
use culvert::serve::{self, Health, Metrics, Shared};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{broadcast, mpsc, watch};
use zerocopy::FromZeros as _;

use crate::support::pins::PinRoot;

/// Both servers, and the other ends of what they talk to.
struct Agent {
    public: std::net::SocketAddr,
    socket: PathBuf,
    shared: Shared,
    status: watch::Sender<Arc<Status>>,
    commands: mpsc::Receiver<Command>,
    _dir: tempfile::TempDir,
    _root: PinRoot,
}

impl Agent {
    async fn start(timeout: Duration) -> Self {
        let root = PinRoot::new();
        let datapath = Datapath::open(root.options()).unwrap();
        let (status, receive_status) = watch::channel(Arc::new(Status::default()));
        let (send_command, commands) = mpsc::channel(8);
        let handle = Handle {
            status: receive_status,
            commands: send_command,
            events: broadcast::channel(64).0,
        };
        let shared = Shared {
            agent: handle,
            config: Arc::new(culvert::config::Config::default()),
            health: Arc::new(Health::new(timeout)),
            metrics: Arc::new(Metrics::new().unwrap()),
            maps: datapath.maps().clone(),
        };
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("culvert.sock");
        let listener = serve::bind_socket(&socket).await.unwrap();
        tokio::spawn(serve::api::serve(listener, shared.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public = listener.local_addr().unwrap();
        tokio::spawn(serve::public::serve(listener, shared.clone()));
        Self { public, socket, shared, status, commands, _dir: dir, _root: root }
    }

    async fn public(&self, request: &str) -> (u16, String) {
        exchange(TcpStream::connect(self.public).await.unwrap(), request).await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.public(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    async fn local(&self, request: &str) -> (u16, String) {
        exchange(UnixStream::connect(&self.socket).await.unwrap(), request).await
    }

    async fn local_get(&self, path: &str) -> (u16, String) {
        self.local(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.local(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    fn publish(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(|status| change(Arc::make_mut(status)));
    }
}

/// Code, and everything after the first line.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (first, rest) = answer.split_once("\r\n").unwrap();
    (first.split(' ').nth(1).unwrap().parse().unwrap(), rest.to_owned())
}

#[tokio::test]
async fn health_answers_as_kube_proxy_does() {
    let agent = Agent::start(Duration::ZERO).await;
    let (code, answer) = agent.get("/healthz").await;
    assert_eq!(code, 200);
    let lower = answer.to_lowercase();
    assert!(lower.contains("content-type: application/json\r\n"), "{answer}");
    assert!(lower.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    let body: serde_json::Value =
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["nodeEligible"], true);
    assert!(body["lastUpdated"].is_string() && body["currentTime"].is_string());

    agent.shared.health.updated();
    agent.shared.health.queued();
    assert_eq!(agent.get("/healthz").await.0, 503);
    assert_eq!(agent.get("/livez").await.0, 503);
    agent.shared.health.updated();
    agent.shared.health.node_leaving(true);
    assert_eq!(agent.get("/healthz").await.0, 503);
    let (code, answer) = agent.get("/livez").await;
    assert_eq!(code, 200);
    assert!(!answer.contains("nodeEligible"), "{answer}");

    let (code, page) = agent.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(page.contains("kubeproxy_proxy_healthz_total{code=\"503\"} 2\n"), "{page}");
    assert!(page.contains("culvert_dropped_packets_total{"), "{page}");
}

#[tokio::test]
async fn readiness_follows_the_status_and_an_api_server_that_is_away_does_not_matter() {
    let agent = Agent::start(Duration::from_secs(60)).await;
    agent.publish(|status| status.waiting_for = vec!["Services".into()]);
    let (code, answer) = agent.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(answer.ends_with(r#"{"ready":false,"waitingFor":["Services"]}"#), "{answer}");
    agent.publish(|status| {
        status.ready = true;
        status.sources = vec![Default::default()];
    });
    assert!(agent.get("/proxyMode").await.1.ends_with("\r\n\r\nebpf"));
    for path in ["/readyz", "/healthz", "/livez"] {
        assert_eq!(agent.get(path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_good_request_is_refused_in_json() {
    let agent = Agent::start(Duration::from_secs(60)).await;
    assert_eq!(agent.get("/nothing").await.0, 404);
    let post =
        "POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(agent.public(post).await.0, 405);
    assert_eq!(agent.public("gibberish\r\n\r\n").await.0, 400);

    assert_eq!(agent.local_get("/v1/nothing").await.0, 404);
    assert_eq!(agent.local_get("/v1/cni/add").await.0, 405);
    assert_eq!(agent.post("/v1/cni/nothing", "{}").await.0, 404);
    assert_eq!(agent.local_get("/v1/monitor?trace=nowhere").await.0, 400);
    assert_eq!(agent.local_get("/v1/monitor?what").await.0, 400);
    let (status, answer) = agent.post("/v1/cni/add", "{").await;
    assert_eq!(status, 400);
    let error: Error = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(error.code, code::DECODE);
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    let stream = UnixStream::connect(&agent.socket).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head =
        format!("POST /v1/cni/add HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", large.len());
    write.write_all(head.as_bytes()).await.unwrap();
    // The server may hang up before it has read everything.
    let _ = write.write_all(large.as_bytes()).await;
    let mut answer = [0; 12];
    read.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_nobody_up() {
    let agent = Agent::start(Duration::from_secs(60)).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(agent.public).await.unwrap());
        silent.push({
            let mut half = TcpStream::connect(agent.public).await.unwrap();
            half.write_all(b"GET /healthz HT").await.unwrap();
            half
        });
    }
    assert_eq!(agent.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn status_and_services_come_over_the_socket() {
    let agent = Agent::start(Duration::from_secs(60)).await;
    agent.publish(|status| status.node_name = "here".into());
    let (code, answer) = agent.local_get("/v1/status").await;
    assert_eq!(code, 200);
    let status: Status = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(status.node_name, "here");
    let (code, answer) = agent.local_get("/v1/services").await;
    assert_eq!(code, 200);
    assert!(answer.ends_with("\r\n\r\n[]"), "{answer}");
}

#[tokio::test]
async fn a_cni_call_reaches_the_loop_and_its_answer_the_plugin() {
    let mut agent = Agent::start(Duration::from_secs(60)).await;
    let (_, replacement) = mpsc::channel(1);
    let mut commands = std::mem::replace(&mut agent.commands, replacement);
    tokio::spawn(async move {
        let Some(Command::Cni { reply, .. }) = commands.recv().await else { panic!("no call") };
        let allocation = Allocation { addresses: vec![], mtu: 1400, hairpin: vec![] };
        reply.send(Ok(Reply::Allocation(allocation))).unwrap();
        let Some(Command::Cni { reply, .. }) = commands.recv().await else { panic!("no call") };
        reply.send(Err(Error::new(code::NOT_AVAILABLE, "not yet"))).unwrap();
    });
    let attachment = r#"{"containerID":"a","ifname":"eth0"}"#;
    let (status, answer) = agent.post("/v1/cni/allocate", attachment).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\"mtu\":1400"), "{answer}");
    let (status, answer) = agent.local_get("/v1/cni/status").await;
    assert_eq!(status, 503);
    assert!(answer.contains("not yet"), "{answer}");
}

#[tokio::test]
async fn monitor_streams_events_and_traces_only_while_somebody_watches() {
    let mut agent = Agent::start(Duration::from_secs(60)).await;
    let mut stream = UnixStream::connect(&agent.socket).await.unwrap();
    let request = "GET /v1/monitor?trace=from_netdev HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let Some(Command::Trace { hooks }) = agent.commands.recv().await else { panic!("no trace") };
    assert_eq!(hooks, 1 << Hook::FromNetdev.number());

    let mut event = Event::new_zeroed();
    event.r#type = EVENT_DROP;
    event.outcome = Outcome::DropNoRoute.number() as u8;
    agent.shared.agent.events.send(event).unwrap();
    let mut answer = String::new();
    while !answer.contains("no_route") {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        assert_ne!(read, 0, "the stream ended: {answer}");
        answer.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }

    drop(stream);
    let ended = tokio::time::timeout(Duration::from_secs(10), agent.commands.recv()).await;
    let Ok(Some(Command::Trace { hooks: 0 })) = ended else { panic!("still traced: {ended:?}") };
}
