// SPDX-License-Identifier: Apache-2.0
//! Questions asked from a place of the lab.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::lab::place::Place;

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Answer {
        /// Of the pod that answered.
        name: String,
        /// Whom that pod saw.
        peer: SocketAddr,
        /// Whom the client thinks it talks to.
        seen: SocketAddr,
    },
    /// `refused`, `unreachable`, `timeout`, or the kernel's words.
    Error { error: String },
}

impl Outcome {
    pub fn is_from(&self, pod: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == pod)
    }

    /// The client was told that nobody serves there, rather than left waiting.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Error { error } if error == "refused" || error == "unreachable")
    }
}

/// `protocol` is `tcp`, `udp`, `udp-unconnected` or `sctp`; port 0 lets the kernel choose.
pub fn ask(program: &Path, from: &Place, protocol: &str, to: SocketAddr, port: u16) -> Outcome {
    asked(from, from.command(program), protocol, to, port)
}

/// The same by a process outside the cluster's cgroups: no socket hook sees it, all its packets
/// are served one by one.
pub fn ask_unhooked(program: &Path, from: &Place, protocol: &str, to: SocketAddr) -> Outcome {
    asked(from, Command::new(program), protocol, to, 0)
}

fn asked(from: &Place, command: Command, protocol: &str, to: SocketAddr, port: u16) -> Outcome {
    let mut command = command;
    command.args(["ask", protocol, &to.to_string(), &port.to_string()]);
    let output = from.output(&mut command).unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("the client said {:?}", String::from_utf8_lossy(&output.stderr)))
}

/// One question of many.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// `tcp`, `udp` or `udp-unconnected`.
    pub protocol: &'static str,
    pub to: SocketAddr,
    pub timeout: Duration,
}

/// A client that stays in its place and asks many questions at a time.
#[derive(Debug)]
pub struct Asker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Asker {
    pub fn start(program: &Path, from: &Place) -> Self {
        Self::start_behind(0, program, from)
    }

    /// So many source ports of datagrams are used after all others.
    pub fn start_behind(ports: u16, program: &Path, from: &Place) -> Self {
        let mut command = from.command(program);
        command.arg("ask-many").arg(ports.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = from.spawn(&mut command).unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    /// The outcomes, in the order of the questions.
    pub fn ask(&mut self, questions: &[Question]) -> Vec<Outcome> {
        // As many as a client's threads and a server's backlog bear.
        questions.chunks(128).flat_map(|some| self.ask_at_once(some)).collect()
    }

    fn ask_at_once(&mut self, questions: &[Question]) -> Vec<Outcome> {
        let mut lines = String::new();
        for (number, Question { protocol, to, timeout }) in questions.iter().enumerate() {
            lines += &format!("{number} {protocol} {to} {}\n", timeout.as_millis());
        }
        self.stdin.write_all(lines.as_bytes()).unwrap();
        let mut outcomes = vec![None; questions.len()];
        for _ in questions {
            let mut line = String::new();
            self.stdout.read_line(&mut line).unwrap();
            let (number, outcome) = line.split_once(' ').expect("a number and an outcome");
            let number: usize = number.parse().unwrap();
            outcomes[number] = Some(serde_json::from_str(outcome).unwrap());
        }
        outcomes.into_iter().map(|outcome| outcome.expect("one answer each")).collect()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that asks all the time.
#[derive(Debug)]
pub struct Talk {
    /// For messages.
    what: String,
    /// Who answered first.
    pub first: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

/// What a talk was like.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    #[serde(skip)]
    pub what: String,
    /// Who answered the first question.
    #[serde(skip)]
    pub first: String,
    pub sent: u64,
    pub answered: u64,
    /// Errors other than a lost answer: a connection that ended, a refusal.
    pub broken: u64,
    /// Longest time without an answer.
    pub longest_ms: u64,
    /// Who answered the last question that was answered.
    pub last: String,
    pub errors: Vec<String>,
}

impl Talk {
    /// Returns when the first answer has come.
    pub fn start(program: &Path, from: &Place, protocol: &str, to: SocketAddr) -> Self {
        let mut command = from.command(program);
        command.args(["talk", protocol, &to.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = from.spawn(&mut command).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let what = format!("{protocol} to {to}");
        let first =
            line.trim().strip_prefix("talking ").unwrap_or_else(|| panic!("{what}: {line}"));
        Self { first: first.to_owned(), what, child, stdout }
    }

    pub fn finish(mut self) -> Report {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        let report: Report = serde_json::from_str(&text).unwrap();
        Report { what: self.what, first: self.first, ..report }
    }
}

impl Report {
    /// Whether one conversation ended up with another server: of datagrams nothing else tells.
    fn has_moved(&self) -> bool {
        !self.what.starts_with("tcp-new ") && self.first != self.last
    }

    /// Lost connections and questions without an answer, in words.
    pub fn flaw(&self) -> Option<String> {
        let Self { what, first, last, sent, answered, broken, errors, .. } = self;
        let moved =
            if self.has_moved() { format!("went from {first} to {last}, ") } else { String::new() };
        (self.has_moved() || *broken > 0 || answered < sent).then(|| {
            format!("{what}: {moved}{answered} of {sent} answered, {broken} broken: {errors:?}")
        })
    }
}
