// SPDX-License-Identifier: Apache-2.0
//! The loop: one task that owns all state and does one thing after the other.

mod waiting;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;

use super::Command;
use super::acceleration::{self, Acceleration};
use super::checks::Checks;
use super::dsr::{Dsr, InKernel};
use super::endpoints::{Conflist, Endpoints};
use super::features;
use super::inspect::Observers;
use super::nodes::Nodes;
use super::reaper::Reaper;
use super::report::Report;
use super::retry::Retries;
use super::sync::{ServiceSync, Step};
use super::task::Task;
use super::uplinks::Uplinks;
use crate::config::{Config, RoutingMode};
use crate::datapath::netlink::{Filter, Routes, View};
use crate::datapath::{Datapath, host};
use crate::lb::Context;
use crate::model::{Change, Kind, Problem, SourceStatus};
use crate::serve::metrics::{Family, Stage};
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
        self.sync.set_context(Context { zone, labels, ..context });
        self.health.node_leaving(self.nodes.leaving(&this));
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

    /// Returns whether there was any.
    async fn work(&mut self, view: &View) -> bool {
        if self.acceleration.due().is_some_and(|due| due <= Instant::now()) {
            self.retries.now(Task::Acceleration);
        }
        // Not earlier: what was just asked for is due by this moment.
        let now = Instant::now();
        let tasks = self.retries.due(now);
        let mut worked = !tasks.is_empty();
        for task in tasks {
            if view.links.is_empty() {
                // The first view is on its way and does all of this.
                self.retries.done(&task);
                continue;
            }
            let outcome = self.attempt(task, view).await;
            match outcome {
                Ok(()) => self.retries.done(&task),
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::warn!(subject = task.subject(), reason, "will be tried again");
                    self.retries.failed(task, reason, now);
                }
            }
        }
        if self.sync.due(now).is_some_and(|due| due <= now) {
            let step = block_in_place(|| self.sync.step(now));
            self.stepped(step);
            worked = true;
        }
        worked
    }

    async fn attempt(&mut self, task: Task, view: &View) -> anyhow::Result<()> {
        match task {
            Task::Network => {
                let first = self.uplinks.attached().is_empty();
                block_in_place(|| self.uplinks.apply(view, &self.datapath, &mut self.sync))?;
                let mtu = view.uplinks.values().map(|uplink| uplink.mtu).min();
                if let Some(mtu) = Some(self.config.mtu).filter(|mtu| *mtu > 0).or(mtu) {
                    self.endpoints.set_mtu(mtu);
                }
                if first {
                    self.retries.now(Task::DetachOthers);
                }
                self.retries.now(Task::Dsr);
                self.retries.now(Task::Routes);
                // In one go: a device that waits for its driver hook is not ready meanwhile.
                let now = Instant::now();
                block_in_place(|| self.acceleration.step(view, &self.datapath, now))?;
            }
            Task::Acceleration => {
                let now = Instant::now();
                block_in_place(|| self.acceleration.step(view, &self.datapath, now))?;
            }
            Task::Dsr => {
                let this = &self.config.node_name;
                self.dsr_kernel.apply(&self.dsr, &self.nodes, this, view, &self.datapath).await?;
            }
            Task::Routes => {
                let direct = self.config.routing_mode == RoutingMode::Native
                    && self.config.auto_direct_node_routes;
                let this = &self.config.node_name;
                self.nodes.sync_routes(this, direct, view, &self.routes).await?;
            }
            Task::DetachOthers => {
                let pods = self.endpoints.devices();
                let uplinks = view.uplinks.values().map(|uplink| uplink.name.clone());
                let kept = pods.chain(uplinks).chain(self.dsr.device());
                let hooks = acceleration::devices(view);
                self.datapath.detach_others(&kept.collect(), &hooks)?;
                // By now no program of an earlier agent is left to write into replaced maps.
                self.datapath.settle()?;
            }
            Task::CniConfiguration => {
                let config = &self.config;
                let conflist = Conflist {
                    dir: config.cni.conf_path.clone(),
                    socket: config.socket.clone(),
                    state_dir: config.state_dir.clone(),
                    exclusive: config.cni.exclusive,
                };
                conflist.install()?;
                self.cni_installed = true;
            }
        }
        Ok(())
    }

    fn stepped(&mut self, step: Step) {
        let stage = if self.synced_once { Stage::Partial } else { Stage::Full };
        if step.failed > 0 {
            self.metrics.sync_failed(stage);
            self.report.failures += step.failed as u64;
        }
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for trigger in step.triggered {
            let latency = (wall.as_nanos() as i128).saturating_sub(trigger.at);
            let latency = Duration::from_nanos(u64::try_from(latency).unwrap_or(0));
            self.metrics.programmed(Family::of(trigger.v6), latency);
        }
        if !step.ended.is_empty()
            && let Some(reaper) = &self.reaper
        {
            let netns: Vec<PathBuf> = self.endpoints.list().map(|pod| pod.netns.clone()).collect();
            reaper.end(step.ended, netns);
        }
        if self.sync.synced() {
            if let Some(queued) = self.queued.take() {
                let took = queued.elapsed();
                self.metrics.synced(stage, took);
                self.report.synced(took);
            }
            if std::mem::take(&mut self.relisted) {
                // Everything was parsed at once and little of that is kept.
                host::trim_heap();
            }
            self.synced_once = true;
            self.health.updated();
        }
    }

    fn publish(&mut self, source: &SourceStatus, view: &View) {
        if self.dsr.reread() {
            self.dsr_changed();
        }
        let waiting = self.waiting_for(view);
        let cni = self.cni_obstacle(&waiting);
        if cni.is_none() && self.config.cni.install && !self.cni_installed {
            self.retries.now(Task::CniConfiguration);
        }
        self.endpoints.set_not_ready(cni);
        if self.synced_once {
            let addresses = &self.config.node_port.addresses;
            self.checks.tell(super::report::checked(self.sync.balancer(), addresses, view));
        }
        let mut problems = self.sync.problems();
        problems.extend(self.checks.problems());
        problems.extend(self.nodes.problems().into_iter().chain(self.dsr.problems()));
        problems.extend(self.retries.reasons().map(|(task, reason)| Problem {
            subject: task.subject().to_owned(),
            message: reason.to_owned(),
        }));
        self.report.publish(super::report::Now {
            waiting,
            problems,
            source,
            synced: self.sync.listed(),
            view,
            attached: self.uplinks.attached(),
            acceleration: &self.acceleration,
            dsr: &self.dsr,
            pod_cidrs: self.nodes.pod_cidrs(&self.config.node_name),
            endpoints: &self.endpoints,
            totals: self.sync.balancer().totals(),
            targets: self.sync.balancer().targets_in_use(),
            tables: self.sync.balancer().tables_in_use(),
            pending: self.sync.pending() as u64,
            mechanism: self.datapath.mechanism().name(),
            node_ips: &self.nodes.addresses(&self.config.node_name),
            maps: self.datapath.maps(),
        });
    }
}

#[cfg(test)]
mod tests;
