// SPDX-License-Identifier: Apache-2.0
//! The agent's end of a source: keeps what it is told, and waits for what a test expects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use culvert::model::{Change, Kind, Object, ObjectKey, SourceStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Only so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the agent would know.
#[derive(Debug, Default)]
pub struct World {
    pub objects: BTreeMap<ObjectKey, Object>,
    /// Kinds that have been listed.
    pub listed: BTreeSet<Kind>,
    /// Every change so far, in short.
    pub log: Vec<String>,
}

impl World {
    /// `shop/web shop/api` of one kind.
    pub fn names(&self, kind: Kind) -> String {
        let names = self.objects.keys().filter_map(|key| match (kind, key) {
            (Kind::Service, ObjectKey::Service(name))
            | (Kind::EndpointSlice, ObjectKey::Slice(name))
            | (Kind::Pod, ObjectKey::Pod(name)) => Some(name.to_string()),
            (Kind::Node, ObjectKey::Node(name)) => Some(name.clone()),
            _ => None,
        });
        names.collect::<Vec<_>>().join(" ")
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(object) => {
                self.log.push(format!("set {:?}", key(&object)));
                self.objects.insert(key(&object), object);
            }
            Change::Removed(gone) => {
                self.log.push(format!("removed {gone:?}"));
                self.objects.remove(&gone);
            }
            Change::Listed(kind, objects) => {
                self.log.push(format!("listed {} {}", objects.len(), kind.name()));
                self.listed.insert(kind);
                self.objects.retain(|key, _| kind_of(key) != kind);
                self.objects.extend(objects.into_iter().map(|object| (key(&object), object)));
            }
        }
    }
}

#[derive(Debug)]
pub struct Listener {
    pub world: World,
    changes: mpsc::Receiver<Change>,
    status: watch::Receiver<SourceStatus>,
}

impl Listener {
    pub fn new() -> (Self, mpsc::Sender<Change>, watch::Sender<SourceStatus>) {
        let (tx, changes) = mpsc::channel(16);
        let (status_tx, status) = watch::channel(SourceStatus::default());
        (Self { world: World::default(), changes, status }, tx, status_tx)
    }

    /// Takes changes in until `done`.
    #[track_caller]
    pub fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            while !done(&self.world) {
                match timeout(PATIENCE, self.changes.recv()).await {
                    Ok(Some(change)) => self.world.apply(change),
                    Ok(None) => panic!("{place}: the source ended before: {what}"),
                    Err(_) => panic!(
                        "{place}: did not come: {what}\nstatus: {:?}\nworld: {:#?}",
                        *self.status.borrow(),
                        self.world
                    ),
                }
            }
        }
    }

    /// Waits until the source's own condition is as wanted, taking changes in meanwhile.
    #[track_caller]
    pub fn until_status(
        &mut self,
        what: &str,
        done: impl Fn(&SourceStatus) -> bool,
    ) -> impl Future<Output = SourceStatus> {
        let place = std::panic::Location::caller();
        async move {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let now = self.status.borrow_and_update().clone();
                if done(&now) {
                    return now;
                }
                tokio::select! {
                    changed = self.status.changed() => changed.expect("the source runs"),
                    Some(change) = self.changes.recv() => self.world.apply(change),
                    () = tokio::time::sleep_until(deadline) => {
                        panic!("{place}: did not come: {what}; status is {now:?}")
                    }
                }
            }
        }
    }
}

fn key(object: &Object) -> ObjectKey {
    match object {
        Object::Service(service) => ObjectKey::Service(service.name.clone()),
        Object::Slice(slice) => ObjectKey::Slice(slice.name.clone()),
        Object::Node(node) => ObjectKey::Node(node.name.clone()),
        Object::Pod(pod) => ObjectKey::Pod(pod.name.clone()),
    }
}

fn kind_of(key: &ObjectKey) -> Kind {
    match key {
        ObjectKey::Service(_) => Kind::Service,
        ObjectKey::Slice(_) => Kind::EndpointSlice,
        ObjectKey::Node(_) => Kind::Node,
        ObjectKey::Pod(_) => Kind::Pod,
    }
}
