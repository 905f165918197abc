// SPDX-License-Identifier: Apache-2.0
//! The loop: one task that owns all state and does one thing after the other.

mod publish;
mod tasks;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;

use super::Command;
use super::acceleration::Acceleration;
use super::checks::Checks;
use super::dsr::{Dsr, InKernel};
use super::endpoints::Endpoints;
use super::features;
use super::inspect::Observers;
use super::nodes::Nodes;
use super::reaper::Reaper;
use super::report::Report;
use super::retry::Retries;
use super::sync::ServiceSync;
use super::task::Task;
use super::uplinks::Uplinks;
use crate::config::Config;
use crate::datapath::Datapath;
use crate::datapath::netlink::{Filter, Routes, View};
use crate::lb::Context;
use crate::model::{Change, Kind, SourceStatus};
use crate::serve::{Health, Metrics};
use waiting::latest;

/// A status that changes faster is published at this pace.
const PUBLISH: Duration = Duration::from_millis(100);

/// Changes taken at once, before the loop looks at anything else.
const CHANGES: usize = 1024;

/// What the loop listens to.
#[derive(Debug)]
pub struct Inputs {
    pub changes: mpsc::Receiver<Change>,
    pub source: watch::Receiver<SourceStatus>,
    pub commands: mpsc::Receiver<Command>,
    pub view: watch::Receiver<Arc<View>>,
}

/// Everything the agent knows and holds.
#[derive(Debug)]
pub struct Core {
    pub config: Arc<Config>,
    pub datapath: Datapath,
    pub sync: ServiceSync,
    pub endpoints: Endpoints,
    pub uplinks: Uplinks,
    pub acceleration: Acceleration,
    pub dsr: Dsr,
    pub dsr_kernel: InKernel,
    pub nodes: Nodes,
    /// None: connected UDP sockets outlive their backend here.
    pub reaper: Option<Reaper>,
    pub routes: Routes,
    pub filter: watch::Sender<Filter>,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    pub report: Report,
    pub checks: Checks,
    pub(super) retries: Retries<Task>,
    /// When the oldest change came that is not written.
    pub(super) queued: Option<Instant>,
    pub(super) synced_once: bool,
    /// Something was listed since the heap was trimmed.
    pub(super) relisted: bool,
    pub(super) listed: BTreeSet<Kind>,
    pub(super) observers: Observers,
    pub(super) cni_installed: bool,
}

impl Core {
    /// Runs until `stop` is done. What is pinned goes on without us.
    pub async fn run(mut self, mut inputs: Inputs, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut publish = Instant::now();
        loop {
            let now = Instant::now();
            let due =
                [self.sync.due(now), self.retries.next(), self.acceleration.due(), Some(publish)];
            let due = due.into_iter().flatten().min().unwrap_or(now);
            // What other nodes say of themselves all the time is no reason to report anew.
            let mut moved = true;
            tokio::select! {
                () = &mut stop => return,
                Some(change) = inputs.changes.recv() => {
                    moved = self.take(change);
                    for _ in 1..CHANGES {
                        let Ok(change) = inputs.changes.try_recv() else { break };
                        moved |= self.take(change);
                    }
                }
                Some(command) = inputs.commands.recv() => {
                    let view = inputs.view.borrow().clone();
                    block_in_place(|| self.command(command, &view));
                }
                Ok(()) = inputs.view.changed() => self.retries.now(Task::Network),
                Ok(()) = inputs.source.changed() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let (view, is_news) = latest(&mut inputs.view);
            if is_news {
                // It came beside what woke us, and will not be told again.
                self.retries.now(Task::Network);
            }
            moved |= self.work(&view).await;
            let now = Instant::now();
            if publish <= now {
                let source = inputs.source.borrow().clone();
                let view = inputs.view.borrow().clone();
                self.publish(&source, &view);
                // Idle, the ages in the status are refreshed now and then.
                publish = now + Duration::from_secs(5);
            } else if moved {
                publish = publish.min(now + PUBLISH);
            }
        }
    }

    /// Returns whether anything is different now, also that something is listed.
    fn take(&mut self, change: Change) -> bool {
        let (kind, action) = (change.kind(), change.action());
        self.metrics.event(kind.name(), action);
        self.observers.note(&change);
        let listed = matches!(change, Change::Listed(..));
        // Before the services themselves: they are planned with it.
        if kind == Kind::Service && self.dsr.learn(&change) {
            self.dsr_changed();
        }
        self.relisted |= listed;
        if listed {
            self.listed.insert(kind);
        }
        let changed = match kind {
            Kind::Service | Kind::EndpointSlice => {
                let changed = self.sync.change(change) as u64;
                if changed > 0 {
                    let services = kind == Kind::Service;
                    let services = if services { changed } else { 0 };
                    let slices = self.sync.take_changed_slices();
                    self.metrics.queued(services, slices);
                    self.health.queued();
                    self.queued.get_or_insert_with(Instant::now);
                }
                changed > 0
            }
            Kind::Node => {
                let changed = self.nodes.change(change);
                if changed {
                    self.node_changed();
                }
                changed
            }
            Kind::Pod => {
                let changed = self.sync.change(change) > 0;
                if changed {
                    self.health.queued();
                    self.queued.get_or_insert_with(Instant::now);
                }
                changed
            }
        };
        changed || listed
    }

    fn node_changed(&mut self) {
        let this = self.config.node_name.clone();
        let node = self.nodes.get(&this);
        let zone = node.and_then(|node| node.zone()).map(Arc::from);
        let labels = node.map(|node| node.labels.clone()).unwrap_or_default();
        let context = features::context(&self.config, self.dsr.forwarding());
        // The node has these on a device.
        let internal = node.into_iter().flat_map(|node| node.internal_addresses());
        let serving = &self.config.node_port.addresses;
        let addresses = internal.filter(|ip| serving.may_serve(*ip)).collect();
        self.sync.set_context(Context { zone, labels, addresses, ..context });
        self.health.node_leaving(self.nodes.leaving());
        self.endpoints.set_pod_cidrs(self.nodes.pod_cidrs(&this));
        let node_ips = self.nodes.addresses(&this);
        self.filter.send_if_modified(|filter| {
            let changed = filter.node_ips != node_ips;
            filter.node_ips.clone_from(&node_ips);
            changed
        });
        self.retries.now(Task::Routes);
        self.retries.now(Task::Dsr);
    }

    fn dsr_changed(&mut self) {
        let mut context = self.sync.balancer().context().clone();
        context.serve.forwarding = self.dsr.forwarding();
        // Before a frontend tells the programs to use it.
        if let Err(error) = self.datapath.maps().set_dsr_keys(self.dsr.keys()) {
            tracing::warn!(%error, "cannot write the key of direct server return");
        }
        self.sync.set_context(context);
        self.retries.now(Task::Dsr);
    }

    fn command(&mut self, command: Command, view: &View) {
        match command {
            Command::Cni { call, reply } => {
                let answer = self.endpoints.handle(call, &mut self.datapath);
                // The caller may have given up; the runtime then asks again.
                let _ = reply.send(answer);
            }
            Command::Explain { asked, reply } => {
                let _ = reply.send(self.explain(&asked, view));
            }
            Command::Observe { noted, reply } => {
                let _ = reply.send(self.observe(&noted));
            }
            Command::Check { source, noted, reply } => {
                let _ = reply.send(self.check(&source, &noted, view));
            }
            Command::Trace { hooks } => {
                if let Err(error) = self.datapath.maps().set_trace(hooks) {
                    tracing::warn!(%error, "cannot switch tracing");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
