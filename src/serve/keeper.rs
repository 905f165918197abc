// SPDX-License-Identifier: Apache-2.0
//! Answers on every service's `healthCheckNodePort`, in a process of its own.
//!
//! A load balancer takes a node out after a few failed probes, and its connections with it. The
//! sockets therefore belong to a process that an agent's end does not reach, not even `kill -9`:
//! nothing else keeps a listening socket open without its owner (a pinned sockmap lets go of it
//! when it is closed, and with SO_REUSEPORT somebody else must be there already). The keeper knows
//! what the last agent said, and says that the node is unhealthy once no agent has said anything
//! for longer than an agent may take.

mod listeners;
mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::socket;
use listeners::Listeners;
use state::Answers;
pub use state::{Checked, Order, Reply, State};

/// Where the keeper of an agent listens whose local API is at `socket`.
pub fn socket_beside(socket: &Path) -> PathBuf {
    socket.with_extension("health.sock")
}

/// Serves until nobody needs it, or until a [`Order::Stop`] comes.
///
/// # Errors
/// Another keeper answers on `socket`, or that cannot be made.
pub async fn run(socket: &Path, patience: Duration) -> Result<(), socket::Error> {
    let listener = socket::bind(socket).await?;
    let answers = Arc::new(Answers::new(patience));
    let mut listeners = Listeners::new(Arc::clone(&answers));
    let (orders_tx, mut orders) = mpsc::channel(8);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(attend(stream, orders_tx.clone()))),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some((order, reply)) = orders.recv() => match order {
                Order::State(state) => {
                    let problems = listeners.follow(&state).await;
                    answers.set(state);
                    // The agent may have gone meanwhile.
                    let _: Result<(), Reply> = reply.send(Reply { problems });
                }
                Order::Stop => return Ok(()),
            },
            // Without services and without an agent there is nothing to keep.
            () = tokio::time::sleep(patience), if answers.idle() => return Ok(()),
        }
    }
}

type Orders = mpsc::Sender<(Order, oneshot::Sender<Reply>)>;

/// Takes one agent's orders, a line each.
async fn attend(stream: UnixStream, orders: Orders) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let order = serde_json::from_str(&line)?;
        let (reply, answer) = oneshot::channel();
        if orders.send((order, reply)).await.is_err() {
            break;
        }
        let Ok(reply) = answer.await else { break };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        write.write_all(&line).await?;
    }
    Ok(())
}

/// An agent's connection to the keeper.
#[derive(Debug)]
pub struct Client {
    lines: tokio::io::Lines<BufReader<tokio::net::unix::OwnedReadHalf>>,
    write: tokio::net::unix::OwnedWriteHalf,
}

impl Client {
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        let (read, write) = UnixStream::connect(socket).await?.into_split();
        Ok(Self { lines: BufReader::new(read).lines(), write })
    }

    /// Ends the keeper; returns when it is gone.
    pub async fn stop(mut self) -> io::Result<()> {
        let outcome = self.order(&Order::Stop).await;
        match outcome.map_err(|error| error.kind()) {
            Ok(_) | Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Ok(()),
            Err(kind) => Err(kind.into()),
        }
    }

    /// Gives one order and waits until it is carried out.
    pub async fn order(&mut self, order: &Order) -> io::Result<Reply> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.write.write_all(&line).await?;
        match self.lines.next_line().await? {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
