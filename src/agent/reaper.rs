// SPDX-License-Identifier: Apache-2.0
//! Ends the connected UDP sockets of targets that left, on a thread of its own: a walk over all
//! sockets must not hold up the control loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::chain;
use crate::abi::GoneTarget;
use crate::datapath::Maps;
use crate::datapath::sockets::SocketDestroyer;
use crate::serve::Metrics;

/// A socket that read its service just before the flip is in the table a moment later: a second
/// walk finds it.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// What to end, and in which network namespaces besides the node's.
#[derive(Debug)]
struct Order {
    gone: Vec<GoneTarget>,
    netns: Vec<PathBuf>,
}

/// The thread's handle. It ends when this is dropped.
#[derive(Debug)]
pub struct Reaper(Sender<Order>);

impl Reaper {
    /// # Errors
    /// The kernel has no iterator over socket storage, or no thread can be had.
    pub fn start(maps: Arc<Maps>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let (orders, inbox) = channel();
        let (ready, started) = channel();
        thread::Builder::new().name("sockets".to_owned()).spawn(move || {
            match SocketDestroyer::new(maps.sock_nat()) {
                Ok(destroyer) => {
                    // The starter waits for this.
                    let _ = ready.send(Ok(()));
                    run(&destroyer, &inbox, &metrics);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        started.recv()??;
        Ok(Self(orders))
    }

    /// Ends the sockets of `gone`, soon.
    pub fn end(&self, gone: Vec<GoneTarget>, netns: Vec<PathBuf>) {
        if self.0.send(Order { gone, netns }).is_err() {
            tracing::error!("the thread that ends sockets is gone");
        }
    }
}

fn run(destroyer: &SocketDestroyer, inbox: &Receiver<Order>, metrics: &Metrics) {
    let mut second: Vec<(Instant, Order)> = Vec::new();
    loop {
        let now = Instant::now();
        let (due, rest) = second.into_iter().partition(|(at, _)| *at <= now);
        second = rest;
        for (_, order) in Vec::<(Instant, Order)>::into_iter(due) {
            walk(destroyer, &order, metrics);
        }
        let next = second.iter().map(|(at, _)| at.saturating_duration_since(now)).min();
        let order = match next {
            Some(wait) => inbox.recv_timeout(wait),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(order) => {
                walk(destroyer, &order, metrics);
                second.push((Instant::now() + SECOND_LOOK, order));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn walk(destroyer: &SocketDestroyer, order: &Order, metrics: &Metrics) {
    match destroyer.destroy(&order.gone, &order.netns) {
        Ok(report) => {
            let ended = report.found.saturating_sub(report.left.len());
            metrics.sockets_destroyed(ended as u64);
            if !report.left.is_empty() {
                let left = report.left.len();
                tracing::warn!(left, "UDP sockets stay connected to backends that left");
            }
        }
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(error, "cannot end the UDP sockets of backends that left");
        }
    }
}
