// SPDX-License-Identifier: Apache-2.0
//! A client that stays: many questions at a time, without a process for each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{ask, outcome_json};

/// Source ports of datagrams, each used only after all others: a datagram from a port that was used
/// a moment ago belongs to that flow and says nothing about new ones.
const PORTS: std::ops::Range<u16> = 33000..60000;

/// Each line of standard input is `NUMBER PROTOCOL ADDRESS TIMEOUT_MS`; each answer is one line
/// `NUMBER JSON`, in any order. The first `skipped` ports come last.
pub(super) fn ask_many(skipped: u16) -> Result<()> {
    let next_port = Arc::new(AtomicU16::new(PORTS.start + skipped));
    for line in io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let mut word = || words.next().context("a question has four words");
        let (number, protocol) = (word()?.to_owned(), word()?.to_owned());
        let to: SocketAddr = word()?.parse()?;
        let timeout = Duration::from_millis(word()?.parse()?);
        let ports = Arc::clone(&next_port);
        thread::spawn(move || {
            let outcome = match protocol.as_str() {
                "tcp" => ask::once("tcp", to, 0, timeout),
                _ => from_fresh_port(&ports, |port| ask::once(&protocol, to, port, timeout)),
            };
            // One call, so that lines of different threads do not mix.
            println!("{number} {}", outcome_json(outcome));
        });
    }
    Ok(())
}

fn from_fresh_port<T>(ports: &AtomicU16, ask: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    loop {
        let after = |port| Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start });
        let port = ports.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        match ask(port.unwrap_or(PORTS.start)) {
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
}
