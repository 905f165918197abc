// SPDX-License-Identifier: Apache-2.0
//! The API servers in the order of their health: the last good one first, and after a failure
//! whoever failed longest ago.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use tokio::sync::watch;

use super::board::Board;
use crate::model;

/// Shared by everything that talks to a server.
#[derive(Debug)]
pub(super) struct Servers {
    book: Mutex<Book>,
    board: Board,
}

#[derive(Debug)]
struct Book {
    servers: Vec<Server>,
    /// Whoever answered last.
    current: usize,
}

#[derive(Debug)]
struct Server {
    uri: Uri,
    /// When it failed last, unless it has answered since.
    failed: Option<Instant>,
    failures: u64,
    problem: Option<String>,
    /// When it was last heard of, be it one byte.
    heard: Instant,
    /// Answers that go on: watches, mostly.
    open: usize,
    /// Moves when what is open is to be given up.
    cut: watch::Sender<u64>,
}

impl Servers {
    /// `uris` in the order of preference; at least one.
    pub fn new(uris: Vec<Uri>, board: Board) -> Self {
        let server = |uri| Server {
            uri,
            failed: None,
            failures: 0,
            problem: None,
            heard: Instant::now(),
            open: 0,
            cut: watch::Sender::new(0),
        };
        let servers = uris.into_iter().map(server).collect();
        let servers = Self { book: Mutex::new(Book { servers, current: 0 }), board };
        servers.show(&servers.book());
        servers
    }

    pub fn uri(&self, number: usize) -> Uri {
        self.book().servers[number].uri.clone()
    }

    /// All servers, the one to ask first at the front.
    pub fn order(&self) -> Vec<usize> {
        let book = self.book();
        let mut order: Vec<usize> = (0..book.servers.len()).collect();
        order.sort_by_key(|&number| (book.servers[number].failed, number != book.current));
        order
    }

    /// `number` answered as it should.
    pub fn answered(&self, number: usize) {
        let mut book = self.book();
        let server = &mut book.servers[number];
        server.heard = Instant::now();
        let recovered = server.failed.take().is_some();
        server.problem = None;
        if recovered || book.current != number {
            if book.current != number {
                tracing::info!(server = %book.servers[number].uri, "another API server is used");
            }
            book.current = number;
            self.show(&book);
        }
    }

    /// `number` did not answer as it should: others come first from now on.
    pub fn failed(&self, number: usize, why: &str) {
        let mut book = self.book();
        let server = &mut book.servers[number];
        server.failed = Some(Instant::now());
        server.failures += 1;
        server.problem = Some(why.to_owned());
        self.show(&book);
    }

    /// Something came from `number`.
    pub fn heard(&self, number: usize) {
        self.book().servers[number].heard = Instant::now();
    }

    /// An answer of `number` has begun; returns what moves when it is to be given up.
    pub fn opened(&self, number: usize) -> watch::Receiver<u64> {
        let mut book = self.book();
        let server = &mut book.servers[number];
        server.open += 1;
        server.heard = Instant::now();
        server.cut.subscribe()
    }

    pub fn closed(&self, number: usize) {
        self.book().servers[number].open -= 1;
    }

    /// Gives up everything that is open at `number`.
    pub fn cut(&self, number: usize) {
        self.book().servers[number].cut.send_modify(|count| *count += 1);
    }

    /// Servers with open answers of which nothing has been heard for `silence`.
    pub fn silent(&self, silence: Duration) -> Vec<usize> {
        let book = self.book();
        let silent = |s: &Server| s.open > 0 && s.heard.elapsed() >= silence;
        (0..book.servers.len()).filter(|&number| silent(&book.servers[number])).collect()
    }

    fn show(&self, book: &Book) {
        let server = |(number, server): (usize, &Server)| model::Server {
            url: text(&server.uri),
            in_use: number == book.current && server.failed.is_none(),
            failures: server.failures,
            problem: server.problem.clone(),
        };
        self.board.servers(book.servers.iter().enumerate().map(server).collect());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the slash that a URI of nothing but a host ends with.
pub(super) fn text(uri: &Uri) -> String {
    uri.to_string().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SourceStatus;

    fn servers(count: usize) -> (Servers, watch::Receiver<SourceStatus>) {
        let (tx, rx) = watch::channel(SourceStatus::default());
        let uris = (0..count).map(|n| format!("https://10.0.0.{n}:6443").parse().unwrap());
        (Servers::new(uris.collect(), Board::new("kube".to_owned(), tx)), rx)
    }

    #[test]
    fn the_last_good_one_comes_first_and_the_last_failed_one_last() {
        let (servers, status) = servers(3);
        assert_eq!(servers.order(), [0, 1, 2]);
        servers.failed(0, "refused");
        assert_eq!(servers.order(), [1, 2, 0]);
        servers.answered(2);
        assert_eq!(servers.order(), [2, 1, 0], "nobody leaves a good one");
        servers.failed(2, "refused");
        servers.failed(1, "refused");
        assert_eq!(servers.order(), [0, 2, 1], "whoever failed longest ago may be well again");
        servers.answered(0);
        let shown: Vec<_> =
            status.borrow().servers.iter().map(|s| (s.in_use, s.failures)).collect();
        assert_eq!(shown, [(true, 1), (false, 1), (false, 1)]);
        assert_eq!(status.borrow().servers[0].problem, None);
        assert_eq!(status.borrow().servers[1].problem.as_deref(), Some("refused"));
    }

    #[test]
    fn only_who_owes_an_answer_can_be_silent() {
        let (servers, _status) = servers(2);
        assert_eq!(servers.silent(Duration::ZERO), [0; 0]);
        let cut = servers.opened(1);
        assert_eq!(servers.silent(Duration::ZERO), [1]);
        assert_eq!(servers.silent(Duration::from_secs(60)), [0; 0]);
        servers.cut(1);
        assert!(cut.has_changed().unwrap());
        servers.closed(1);
        assert_eq!(servers.silent(Duration::ZERO), [0; 0]);
    }
}
