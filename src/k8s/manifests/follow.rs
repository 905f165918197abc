// SPDX-License-Identifier: Apache-2.0
//! Watches a directory and says which files are worth a look, and when.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::files::is_manifest;

/// A file that was written to and not closed, or is gone, is left alone for so long.
const SETTLE: Duration = Duration::from_millis(50);
/// Every file is looked at so often all the same: what a link points to may change unseen.
const SWEEP: Duration = Duration::from_secs(10);
/// How soon a directory that cannot be watched is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// What to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    All,
    At(BTreeSet<Arc<str>>),
}

#[derive(Debug)]
pub(super) struct Follower {
    _watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<notify::Result<Event>>,
    pending: Pending,
    sweep_at: Instant,
}

#[derive(Debug, Default)]
struct Pending {
    ready: BTreeSet<Arc<str>>,
    all: bool,
    /// Written to and not closed yet, or gone, and when that was last seen of any.
    open: BTreeSet<Arc<str>>,
    touched: Option<Instant>,
    /// The watched directory itself went away.
    lost: bool,
}

impl Follower {
    /// # Errors
    /// The directory is not there, or the kernel has no watch left.
    pub fn new(directory: &Path) -> notify::Result<Self> {
        let (tx, events) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            // The receiver goes only together with the watcher.
            let _ = tx.send(event);
        })?;
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        let (pending, sweep_at) = (Pending::default(), Instant::now() + SWEEP);
        Ok(Self { _watcher: watcher, events, pending, sweep_at })
    }

    /// Waits until something is worth a look. `None`: the directory is no longer watched.
    pub async fn next(&mut self, directory: &Path) -> Option<Look> {
        loop {
            while let Ok(event) = self.events.try_recv() {
                self.pending.note(event, directory);
            }
            if let Some(look) = self.pending.take(Instant::now()) {
                return Some(look);
            }
            if self.pending.lost {
                return None;
            }
            let wake = self.pending.touched.map_or(self.sweep_at, |at| at + SETTLE);
            tokio::select! {
                event = self.events.recv() => self.pending.note(event?, directory),
                () = sleep_until(wake.min(self.sweep_at)) => {
                    if Instant::now() >= self.sweep_at {
                        self.sweep_at = Instant::now() + SWEEP;
                        self.pending.all = true;
                    }
                }
            }
        }
    }
}

impl Pending {
    fn note(&mut self, event: notify::Result<Event>, directory: &Path) {
        let Ok(event) = event else {
            self.all = true;
            return;
        };
        if event.need_rescan() {
            self.all = true;
        }
        // Reading is our own doing; so is every event that only says so.
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if matches!(event.kind, EventKind::Access(_)) && event.kind != closed {
            return;
        }
        // A rename is told as From, To and Both; the first two say it all.
        if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
            return;
        }
        for path in &event.paths {
            if path == directory {
                let gone = matches!(
                    event.kind,
                    EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
                );
                self.lost |= gone;
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            match name {
                Some(name) if is_manifest(name) => self.note_file(name.into(), &event.kind),
                // Of a ConfigMap mount: every file is read through this link.
                Some("..data") => self.all = true,
                _ => {}
            }
        }
    }

    fn note_file(&mut self, name: Arc<str>, kind: &EventKind) {
        // A file that goes may come back at once, rewritten or under another name, and what it
        // holds must not be gone in between.
        let unsettled = matches!(
            kind,
            EventKind::Create(_)
                | EventKind::Remove(_)
                | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Name(RenameMode::From))
        );
        if unsettled {
            self.touched = Some(Instant::now());
            self.ready.remove(&name);
            self.open.insert(name);
        } else {
            self.open.remove(&name);
            self.ready.insert(name);
        }
        if self.open.is_empty() {
            self.touched = None;
        }
    }

    fn take(&mut self, now: Instant) -> Option<Look> {
        if self.touched.is_some_and(|at| now >= at + SETTLE) {
            self.ready.append(&mut self.open);
            self.touched = None;
        }
        if std::mem::take(&mut self.all) {
            self.ready.clear();
            return Some(Look::All);
        }
        (!self.ready.is_empty()).then(|| Look::At(std::mem::take(&mut self.ready)))
    }
}
