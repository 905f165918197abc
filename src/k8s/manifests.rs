// SPDX-License-Identifier: Apache-2.0
//! A directory of Kubernetes YAML as a source.
//!
//! The files `*.yaml`, `*.yml` and `*.json` hold any number of documents and lists. They are
//! watched, and what changed is sent. A document that cannot be used is named with file, number,
//! line and field, and holds nothing else up; while a file has one, nothing the file held before
//! is taken away. The directory being away takes nothing away either.

mod claims;
mod directory;
mod document;
mod files;
mod find;
mod follow;
mod header;
mod parse;
mod yaml;

use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::model::{Change, Kind, Object, Problem, SourceStatus};
use directory::Directory;
pub use find::find;
use follow::{Follower, Look};
pub use parse::parse;

/// Follows the files of `path` until `tx`'s receiver is dropped.
///
/// `proxy_name` is that of [`super::decode::Decoder::new`].
pub async fn run(
    path: PathBuf,
    proxy_name: Option<String>,
    tx: mpsc::Sender<Change>,
    status: watch::Sender<SourceStatus>,
) {
    status.send_modify(|status| status.name = format!("manifests {}", path.display()));
    let mut source = Source {
        directory: Directory::new(path.clone(), proxy_name),
        listed: false,
        path,
        tx,
        status,
    };
    while let Some(problem) = source.follow().await {
        let mut problems = source.directory.problems();
        problems.push(problem);
        report(&source.status, false, problems);
        tokio::select! {
            () = tokio::time::sleep(follow::RETRY) => {}
            () = source.tx.closed() => return,
        }
    }
}

struct Source {
    path: PathBuf,
    directory: Directory,
    listed: bool,
    tx: mpsc::Sender<Change>,
    status: watch::Sender<SourceStatus>,
}

impl Source {
    /// Follows the directory until that is no longer possible, and says why. `None`: nobody
    /// listens any more.
    async fn follow(&mut self) -> Option<Problem> {
        let mut follower = match Follower::new(&self.path) {
            Ok(follower) => follower,
            Err(error) => {
                // Without a watch the files are looked at again and again.
                let problem = self.look(Look::All).await?.err();
                return Some(problem.unwrap_or_else(|| unwatched(&self.path, &error)));
            }
        };
        // The watch stands before the first look, so that nothing falls in between.
        let mut look = Look::All;
        loop {
            if let Err(problem) = self.look(look).await? {
                return Some(problem);
            }
            report(&self.status, true, self.directory.problems());
            look = tokio::select! {
                next = follower.next(&self.path) => match next {
                    Some(look) => look,
                    None => return Some(away(&self.path)),
                },
                () = self.tx.closed() => return None,
            };
        }
    }

    /// Sends what changed. `None`: nobody listens any more.
    async fn look(&mut self, look: Look) -> Option<Result<(), Problem>> {
        // Reading and parsing block, so that happens on a thread that may.
        let empty = Directory::new(PathBuf::new(), None);
        let mut directory = mem::replace(&mut self.directory, empty);
        let work = spawn_blocking(move || {
            let changes = match look {
                Look::All => directory.scan(),
                Look::At(names) => Ok(directory.look(&names)),
            };
            (directory, changes)
        });
        // Only the end of the runtime cuts the thread off.
        let (directory, changes) = work.await.ok()?;
        self.directory = directory;
        let changes = match changes {
            Ok(changes) => changes,
            Err(error) => return Some(Err(unreadable(&self.path, &error))),
        };
        let first = !mem::replace(&mut self.listed, true);
        if first {
            // Who has got the list finds there what it had to leave out.
            report(&self.status, true, self.directory.problems());
        }
        for change in if first { listed(changes) } else { changes } {
            self.tx.send(change).await.ok()?;
        }
        Some(Ok(()))
    }
}

/// The first look is the whole of every kind.
fn listed(changes: Vec<Change>) -> Vec<Change> {
    let mut lists = Kind::ALL.map(|kind| (kind, Vec::new()));
    for change in changes {
        let Change::Set(object) = change else { continue };
        let kind = match &object {
            Object::Service(_) => Kind::Service,
            Object::Slice(_) => Kind::EndpointSlice,
            Object::Node(_) => Kind::Node,
            Object::Pod(_) => Kind::Pod,
        };
        if let Some((_, list)) = lists.iter_mut().find(|(listed, _)| *listed == kind) {
            list.push(object);
        }
    }
    lists.into_iter().map(|(kind, objects)| Change::Listed(kind, objects)).collect()
}

fn report(status: &watch::Sender<SourceStatus>, connected: bool, problems: Vec<Problem>) {
    status.send_if_modified(|status| {
        let changed = (status.connected, &status.problems) != (connected, &problems);
        (status.connected, status.problems) = (connected, problems);
        changed
    });
}

fn unwatched(path: &Path, error: &notify::Error) -> Problem {
    let message = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "no inotify watch is left; raise `fs.inotify.max_user_watches`".to_owned()
        }
        _ => format!("the directory cannot be watched ({error}); it is read every second"),
    };
    Problem { subject: path.display().to_string(), message }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let message = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such directory; create it, or name another with `manifests`".to_owned()
        }
        _ => format!("the directory cannot be read ({error}); what was read stays in force"),
    };
    Problem { subject: path.display().to_string(), message }
}

fn away(path: &Path) -> Problem {
    let message = "the directory was taken away; what was read stays in force".to_owned();
    Problem { subject: path.display().to_string(), message }
}
