// SPDX-License-Identifier: Apache-2.0
//! Gathers the state of the four watches into one [`SourceStatus`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::model::{Kind, ObjectKey, Problem, Server, SourceStatus};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// The server answers, but not with what was asked for.
    Refused(Problem),
    Down(Problem),
}

#[derive(Debug, Default)]
struct Kinds {
    links: BTreeMap<Kind, Link>,
    /// Objects that could not be decoded.
    objects: BTreeMap<Kind, BTreeMap<ObjectKey, Problem>>,
}

/// Shared by the watches; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Board {
    kinds: Arc<Mutex<Kinds>>,
    status: Arc<watch::Sender<SourceStatus>>,
}

impl Board {
    pub fn new(name: String, status: watch::Sender<SourceStatus>) -> Self {
        status.send_replace(SourceStatus { name, ..SourceStatus::default() });
        Self { kinds: Arc::default(), status: Arc::new(status) }
    }

    pub fn link(&self, kind: Kind, link: Link) {
        self.change(|kinds| {
            kinds.links.insert(kind, link);
        });
    }

    pub fn servers(&self, servers: Vec<Server>) {
        self.status.send_modify(|status| status.servers = servers);
    }

    /// Counts a reason for which a watch or list of `kind` ended before its time.
    pub fn trouble(&self, kind: Kind, reason: &'static str) {
        self.status.send_modify(|status| *status.troubles.entry((kind, reason)).or_default() += 1);
    }

    pub fn objects(&self, kind: Kind, problems: &BTreeMap<ObjectKey, Problem>) {
        self.change(|kinds| {
            kinds.objects.insert(kind, problems.clone());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Kinds)) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut kinds);
        let down = kinds.links.values().any(|link| matches!(link, Link::Down(_)));
        let connected = !kinds.links.is_empty() && !down;
        let links = kinds.links.values().filter_map(|link| match link {
            Link::Up => None,
            Link::Refused(problem) | Link::Down(problem) => Some(problem),
        });
        // One server that is away is one problem, not one for each of its four watches.
        let mut problems: Vec<Problem> = Vec::new();
        for problem in links.chain(kinds.objects.values().flat_map(BTreeMap::values)) {
            if !problems.contains(problem) {
                problems.push(problem.clone());
            }
        }
        self.status.send_if_modified(|status| {
            let new = (connected, problems);
            let changed = (status.connected, &status.problems) != (new.0, &new.1);
            (status.connected, status.problems) = new;
            changed
        });
    }
}
