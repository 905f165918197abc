// SPDX-License-Identifier: Apache-2.0
//! What the loop tells: metrics and health of each step, and the status.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::Core;
use crate::agent::report;
use crate::agent::sync::Step;
use crate::agent::task::Task;
use crate::datapath::host;
use crate::datapath::netlink::View;
use crate::model::{Problem, SourceStatus};
use crate::serve::metrics::{Family, Stage};

impl Core {
    pub(super) fn stepped(&mut self, step: Step) {
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
        if self.sync.settled() {
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

    pub(super) fn publish(&mut self, source: &SourceStatus, view: &View) {
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
            self.checks.tell(report::checked(self.sync.balancer(), addresses, view));
        }
        let mut problems = self.sync.problems();
        problems.extend(self.checks.problems());
        problems.extend(self.nodes.problems().into_iter().chain(self.dsr.problems()));
        problems.extend(self.retries.reasons().map(|(task, reason)| Problem {
            subject: task.subject().to_owned(),
            message: reason.to_owned(),
        }));
        self.report.publish(report::Now {
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
            vips: self.sync.balancer().vips_in_use(),
            nodes: self.dsr_kernel.nodes_written(),
            pending: self.sync.pending() as u64,
            mechanism: self.datapath.mechanism().name(),
            node_ips: &self.nodes.addresses(&self.config.node_name),
            maps: self.datapath.maps(),
        });
    }
}
