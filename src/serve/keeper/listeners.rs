// SPDX-License-Identifier: Apache-2.0
//! The sockets that the keeper holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::state::{Answers, State};
use crate::serve::http::{self, Limits};

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

#[derive(Debug)]
pub(super) struct Listeners {
    answers: Arc<Answers>,
    open: BTreeMap<SocketAddr, JoinHandle<()>>,
}

impl Listeners {
    pub fn new(answers: Arc<Answers>) -> Self {
        Self { answers, open: BTreeMap::new() }
    }

    /// Opens and closes what `state` asks for; returns what could not be opened. A socket that is
    /// wanted before and after is not touched.
    pub async fn follow(&mut self, state: &State) -> Vec<(String, String)> {
        let wanted: BTreeSet<SocketAddr> =
            state.services.iter().flat_map(|service| places(state, service.port)).collect();
        self.open.retain(|at, task| {
            let keep = wanted.contains(at);
            if !keep {
                task.abort();
            }
            keep
        });
        let mut problems = Vec::new();
        for at in wanted {
            if self.open.contains_key(&at) {
                continue;
            }
            match listen(at).await {
                Ok(listener) => {
                    let serving = serve(listener, at.port(), Arc::clone(&self.answers));
                    self.open.insert(at, tokio::spawn(serving));
                }
                // A kernel without IPv6.
                Err(error) if at.is_ipv6() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(error) => {
                    let service = state.services.iter().find(|s| s.port == at.port());
                    let subject = service.map(|s| format!("Service {}/{}", s.namespace, s.name));
                    let message = format!("cannot listen on healthCheckNodePort {at}: {error}");
                    problems.push((subject.unwrap_or_default(), message));
                }
            }
        }
        problems
    }
}

/// The addresses that a port is to be answered on: one socket a family, so that a node without
/// one of them has the other.
fn places(state: &State, port: u16) -> Vec<SocketAddr> {
    let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = if state.addresses.is_empty() { &all[..] } else { &state.addresses };
    addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}

async fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
    let socket = match at {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = tokio::net::TcpSocket::new_v6()?;
            // IPv4 has a socket of its own.
            setsockopt(&socket, Ipv6V6Only, &true)?;
            socket
        }
    };
    // Connections of before, in TIME_WAIT, must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(1024)
}

async fn serve(listener: TcpListener, port: u16, answers: Arc<Answers>) {
    let limits = Limits::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others may give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answers = Arc::clone(&answers);
        let handle = move |_| {
            let answer = answer(&answers, port);
            async move { answer }
        };
        limits.serve(stream, handle).await;
    }
}

/// Every path and method is a probe, as with kube-proxy.
fn answer(answers: &Answers, port: u16) -> http::Answer {
    let Some(answer) = answers.of(port) else {
        // Closed at this very moment.
        return http::refuse(hyper::StatusCode::SERVICE_UNAVAILABLE, "no service has this port");
    };
    let mut response = http::answer(answer.status, "application/json", answer.body);
    response.headers_mut().insert(WEIGHT, HeaderValue::from(answer.weight));
    response
}
