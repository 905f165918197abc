// SPDX-License-Identifier: Apache-2.0
//! Pods with hostPorts on this node.

use std::collections::HashSet;

use super::Balancer;
use crate::abi::ServiceKey;
use crate::lb::owner::Owner;
use crate::model::{ObjectName, Pod};

impl Balancer {
    pub(super) fn has_host_ports(&self, pod: &Pod) -> bool {
        let ours = pod.node.as_deref() == Some(&*self.context.node);
        ours && !pod.host_network && !pod.finished && !pod.host_ports.is_empty()
    }

    /// Pods of other nodes, and those without hostPorts, are of no interest.
    pub fn set_pod(&mut self, pod: Pod) -> bool {
        if !self.has_host_ports(&pod) {
            return self.remove_pod(&pod.name);
        }
        let touched = self.pods.set(pod);
        self.touch_host_ports(touched)
    }

    pub fn remove_pod(&mut self, name: &ObjectName) -> bool {
        let touched = self.pods.remove(name);
        self.touch_host_ports(touched)
    }

    /// Everything there is; returns the number of changes.
    pub fn list_pods(&mut self, pods: Vec<Pod>) -> usize {
        let listed: HashSet<&ObjectName> = pods.iter().map(|pod| &pod.name).collect();
        let vanished: Vec<ObjectName> =
            self.pods.names().filter(|name| !listed.contains(name)).cloned().collect();
        let removed = vanished.iter().filter(|name| self.remove_pod(name)).count();
        removed + pods.into_iter().filter_map(|pod| self.set_pod(pod).then_some(())).count()
    }

    fn touch_host_ports(&mut self, keys: Vec<ServiceKey>) -> bool {
        let touched = !keys.is_empty();
        self.objects.dirty.extend(keys.into_iter().map(Owner::HostPort));
        touched
    }
}
