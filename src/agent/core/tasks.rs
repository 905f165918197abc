// SPDX-License-Identifier: Apache-2.0
//! What the loop does when it is due: tasks that are tried again until they succeed, and one step of the
//! services.

use std::time::Instant;

use tokio::task::block_in_place;

use super::Core;
use crate::agent::acceleration;
use crate::agent::endpoints::Conflist;
use crate::agent::task::Task;
use crate::config::RoutingMode;
use crate::datapath::netlink::View;

impl Core {
    /// Returns whether there was any.
    pub(super) async fn work(&mut self, view: &View) -> bool {
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
                let applied = block_in_place(|| {
                    self.datapath.carry_over()?;
                    let applied = self.uplinks.apply(view, &self.datapath, &mut self.sync);
                    self.datapath.carry_over()?;
                    anyhow::Ok(applied)
                })?;
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
                // One device that refuses keeps the others from nothing.
                applied?;
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
}
