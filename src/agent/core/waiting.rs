// SPDX-License-Identifier: Apache-2.0
//! What keeps the agent from being ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Core;
use crate::datapath::netlink::View;

impl Core {
    pub(super) fn waiting_for(&self, view: &View) -> Vec<String> {
        let mut waiting = Vec::new();
        if !self.sync.listed() {
            waiting.push("the source to list services and endpoint slices".to_owned());
        } else if !self.synced_once {
            waiting.push("the first write of all services".to_owned());
        } else if self.sync.pending() > 0 && !self.sync.settled() && self.queued_for_long() {
            waiting.push(format!("the writes of {} services", self.sync.pending()));
        }
        if view.links.is_empty() {
            waiting.push("the kernel to list the network devices".to_owned());
        }
        for (name, attached) in self.uplinks.attached() {
            if attached.problem.is_some() {
                waiting.push(format!("programs on device `{name}`"));
            }
        }
        for (name, reason) in self.acceleration.missing() {
            waiting.push(format!("XDP on device `{name}` ({reason})"));
        }
        waiting
    }

    /// A change on its way is no reason to be unready; one that is stuck is.
    fn queued_for_long(&self) -> bool {
        self.queued.is_some_and(|since| since.elapsed() > Duration::from_secs(5))
    }

    pub(super) fn cni_obstacle(&self, waiting: &[String]) -> Option<String> {
        if let Some(first) = waiting.first() {
            return Some(format!("the agent waits for {first}"));
        }
        let this = &self.config.node_name;
        self.nodes
            .pod_cidrs(this)
            .is_empty()
            .then(|| format!("Node `{this}` has no `spec.podCIDRs` (or is not listed yet)"))
    }
}

/// The newest view, and whether nobody has been told of it.
pub(super) fn latest(view: &mut watch::Receiver<Arc<View>>) -> (Arc<View>, bool) {
    let newest = view.borrow_and_update();
    (Arc::clone(&newest), newest.has_changed())
}
