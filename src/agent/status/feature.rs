// SPDX-License-Identifier: Apache-2.0
//! What was requested of each feature, and what is in effect.

use serde::{Deserialize, Serialize};

/// One feature. The words are those that `culvert status` prints: `Enabled`, `BPF`, `SNAT` …
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feature {
    pub requested: String,
    pub effective: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Feature {
    /// In effect as requested.
    pub fn as_requested(word: impl Into<String>) -> Self {
        let word = word.into();
        Self { requested: word.clone(), effective: word, reason: String::new() }
    }

    /// In effect otherwise.
    pub fn instead(
        requested: impl Into<String>,
        effective: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { requested: requested.into(), effective: effective.into(), reason: reason.into() }
    }

    /// `Enabled` or `Disabled`, as requested.
    pub fn switch(on: bool) -> Self {
        Self::as_requested(if on { "Enabled" } else { "Disabled" })
    }

    /// Requested by nobody and not there.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self::instead("Disabled", "Disabled", reason)
    }

    pub fn differs(&self) -> bool {
        self.requested != self.effective
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Features {
    /// `True`, `Partial` or `False`.
    pub kube_proxy_replacement: Feature,
    pub socket_lb: Feature,
    pub socket_lb_tracing: Feature,
    /// `Full` or `Hostns-only`.
    pub socket_lb_coverage: Feature,
    /// `SNAT`, `DSR` or `Hybrid`.
    pub mode: Feature,
    /// `IP Option/Extension`, `IPIP` or `Geneve`.
    pub dsr_dispatch: Feature,
    /// `Random`, or `Maglev (Table Size: N)`.
    pub backend_selection: Feature,
    pub session_affinity: Feature,
    pub nat46x64: Feature,
    /// `Disabled`, `Native`, `Partial` (some devices only), `Best-Effort` or `Generic`.
    pub xdp_acceleration: Feature,
    pub cluster_ip: Feature,
    pub node_port: Feature,
    pub load_balancer: Feature,
    pub external_ips: Feature,
    pub host_port: Feature,
    /// `Native` or `Tunnel`.
    pub routing: Feature,
    /// `BPF` or `Legacy`.
    pub host_routing: Feature,
    pub masquerading: Feature,
    pub bandwidth_manager: Feature,
    pub ipv6_big_tcp: Feature,
    pub network_policy: Feature,
}

impl Features {
    /// Every feature with the name that `culvert status` gives it.
    pub fn all(&self) -> [(&'static str, &Feature); 21] {
        [
            ("KubeProxyReplacement", &self.kube_proxy_replacement),
            ("Socket LB", &self.socket_lb),
            ("Socket LB Tracing", &self.socket_lb_tracing),
            ("Socket LB Coverage", &self.socket_lb_coverage),
            ("Mode", &self.mode),
            ("DSR Dispatch Mode", &self.dsr_dispatch),
            ("Backend Selection", &self.backend_selection),
            ("Session Affinity", &self.session_affinity),
            ("NAT46/64 Support", &self.nat46x64),
            ("XDP Acceleration", &self.xdp_acceleration),
            ("ClusterIP", &self.cluster_ip),
            ("NodePort", &self.node_port),
            ("LoadBalancer", &self.load_balancer),
            ("externalIPs", &self.external_ips),
            ("HostPort", &self.host_port),
            ("Routing", &self.routing),
            ("Host Routing", &self.host_routing),
            ("Masquerading", &self.masquerading),
            ("BandwidthManager", &self.bandwidth_manager),
            ("IPv6 BIG TCP", &self.ipv6_big_tcp),
            ("NetworkPolicy", &self.network_policy),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_in_the_list_once() {
        let features = Features::default();
        let in_json = serde_json::to_value(&features).unwrap();
        assert_eq!(features.all().len(), in_json.as_object().unwrap().len());
    }
}
