// SPDX-License-Identifier: Apache-2.0
//! Whether requests from outside reach backends on other nodes by direct server return.

use super::annotations::Annotations;
use crate::abi::ServiceKind;
use crate::model::{Protocol, Service, TrafficPolicy};

/// What is done where a service does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Snat,
    Dsr,
    /// Direct server return but for UDP, each of whose datagrams would have to name the service.
    Hybrid,
}

/// How requests are forwarded on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    pub mode: Mode,
    /// Why direct server return is not possible here; None: it is.
    pub obstacle: Option<String>,
}

impl Forwarding {
    /// Whether the frontend gets direct server return.
    pub(super) fn is_dsr(
        &self,
        service: &Service,
        annotations: &Annotations,
        kind: ServiceKind,
        protocol: Protocol,
    ) -> bool {
        let outside = match kind {
            ServiceKind::NodePort | ServiceKind::ExternalIp | ServiceKind::LoadBalancer => true,
            ServiceKind::ClusterIp | ServiceKind::HostPort => false,
        };
        // With policy Local no backend is on another node.
        outside
            && service.external_policy == TrafficPolicy::Cluster
            && self.obstacle.is_none()
            && match (annotations.forwarding.unwrap_or(self.mode), protocol) {
                (Mode::Snat, _) | (Mode::Hybrid, Protocol::Udp) => false,
                (Mode::Dsr | Mode::Hybrid, _) => true,
            }
    }

    /// What a service asks for and does not get.
    pub(super) fn fault(&self, annotations: &Annotations) -> Option<String> {
        let obstacle = self.obstacle.as_ref().filter(|_| annotations.forwarding == Some(Mode::Dsr));
        obstacle.map(|obstacle| format!("`forwarding-mode: dsr` has no effect here: {obstacle}"))
    }
}
