// SPDX-License-Identifier: Apache-2.0
//! `settings.host_ports`: how many wildcard frontends lie outside the NodePort range. While it is
//! 0, packets are spared their lookup; so it rises before the first and falls after the last.

use super::plan::{Actual, Plan, Write};
use crate::abi::{Addr, Service, ServiceKey, ServiceKind};

#[derive(Debug, Default)]
pub(super) struct HostPortCount {
    counted: u32,
    /// None: a write failed.
    written: Option<u32>,
    /// Those that an earlier agent left, until they are pruned.
    least: u32,
}

impl HostPortCount {
    /// The frontends say how many there are; the number in `settings` may be anybody's.
    pub(super) fn adopt(&mut self, actual: &Actual) {
        let left = actual.services.iter().filter(|(key, value)| is_one(key, value)).count();
        self.least = u32::try_from(left).unwrap_or(u32::MAX);
        self.written = Some(actual.host_ports);
    }

    /// A service had `before` of them and has `after` now.
    pub(super) fn change(&mut self, before: u32, after: u32) {
        self.counted = self.counted - before + after;
    }

    pub(super) fn settle(&mut self, plans: &mut [Plan]) {
        let count = self.counted.max(self.least);
        let Some(first) = plans.first_mut() else { return };
        if self.written == Some(count) {
            return;
        }
        let falls = self.written.is_some_and(|written| count < written);
        let phase = if falls { &mut first.gone } else { &mut first.prepare };
        phase.push(Write::HostPorts { count });
        self.written = Some(count);
    }

    pub(super) fn written(&self) -> Option<u32> {
        self.written
    }

    /// What an earlier agent wrote is gone, unless its hostPorts are `kept`.
    pub(super) fn prune(&mut self, plan: &mut Plan, kept: bool) {
        if !kept {
            self.least = 0;
        }
        self.settle(std::slice::from_mut(plan));
    }

    pub(super) fn doubt(&mut self, plan: &Plan) {
        let mut writes = plan.prepare.iter().chain(&plan.gone);
        if writes.any(|write| matches!(write, Write::HostPorts { .. })) {
            self.written = None;
        }
    }
}

/// A frontend that is counted.
pub(super) fn is_one(key: &ServiceKey, value: &Service) -> bool {
    (key.vip == Addr::V4_WILDCARD || key.vip == Addr::V6_WILDCARD)
        && value.kind == ServiceKind::HostPort as u8
}
