// SPDX-License-Identifier: Apache-2.0
//! What runs inside the lab: a server that says who it is, and clients that say what they saw.
//!
//! They are subcommands of `culvert-lab`, so that each is a process with its own namespace and
//! cgroup. A question is one line, an answer is `NAME PEER QUESTION`.

mod ask;
mod ask_many;
mod flood;
mod sctp;
mod serve;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

/// Runs the helper named by `args`, if it is one.
pub fn run(args: &[String]) -> Result<bool> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", name, port] => serve::serve(name, port.parse()?)?,
        ["ask", protocol, to, from_port] => {
            let outcome = ask::once(protocol, to.parse()?, from_port.parse()?, ask::TIMEOUT);
            println!("{}", outcome_json(outcome));
        }
        ["ask-many", skipped] => ask_many::ask_many(skipped.parse()?)?,
        ["flood", to] => flood::flood(to.parse()?)?,
        ["talk", protocol, to] => ask::talk(protocol, to.parse()?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// One answer.
struct Answer {
    text: String,
    /// `getpeername()` of a connected socket, else the source of the answer.
    seen: SocketAddr,
}

fn outcome_json(outcome: io::Result<Answer>) -> serde_json::Value {
    match outcome {
        Ok(Answer { text, seen }) => match parse(&text) {
            Ok((name, peer)) => json!({ "name": name, "peer": peer, "seen": seen }),
            Err(cause) => json!({ "error": format!("{cause:#}") }),
        },
        Err(cause) => json!({ "error": word(&cause) }),
    }
}

/// Name and the peer that the server saw.
fn parse(answer: &str) -> Result<(&str, SocketAddr)> {
    let mut words = answer.split_whitespace();
    let (Some(name), Some(peer)) = (words.next(), words.next()) else {
        bail!("`{answer}` is no answer");
    };
    Ok((name, peer.parse().with_context(|| format!("`{peer}` is no address"))?))
}

fn word(cause: &io::Error) -> String {
    match cause.kind() {
        ErrorKind::ConnectionRefused => "refused".into(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable".into(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timeout".into(),
        _ => cause.to_string(),
    }
}
