// SPDX-License-Identifier: Apache-2.0
//! What cannot be combined, and what this version does not do. One table each.

use super::resolve::{Error, Given};
use super::{Config, DsrDispatch, KubeProxyReplacement, LbMode, RoutingMode, keys};

/// Two keys whose values contradict each other.
struct Rule {
    keys: [&'static str; 2],
    broken: fn(&Config, &Given) -> bool,
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        keys: ["kubeProxyReplacement", "nodePort.enabled"],
        broken: |c, _| {
            c.kube_proxy_replacement == KubeProxyReplacement::True && !c.node_port.enabled
        },
        why: "`true` replaces all of kube-proxy; use `partial` to leave something out",
    },
    Rule {
        keys: ["kubeProxyReplacement", "externalIPs.enabled"],
        broken: |c, _| c.kube_proxy_replacement == KubeProxyReplacement::True && !c.external_ips,
        why: "`true` replaces all of kube-proxy; use `partial` to leave something out",
    },
    Rule {
        keys: ["kubeProxyReplacement", "socketLB.enabled"],
        broken: |c, _| {
            c.kube_proxy_replacement == KubeProxyReplacement::True && !c.socket_lb.enabled
        },
        why: "`true` also serves the host's own sockets; use `partial` to leave them out",
    },
    Rule {
        keys: ["kubeProxyReplacement", "nodePort.enabled"],
        broken: |c, _| {
            c.kube_proxy_replacement == KubeProxyReplacement::False && c.node_port.enabled
        },
        why: "`false` leaves NodePorts to kube-proxy; use `partial` to take them over",
    },
    Rule {
        keys: ["kubeProxyReplacement", "externalIPs.enabled"],
        broken: |c, _| c.kube_proxy_replacement == KubeProxyReplacement::False && c.external_ips,
        why: "`false` leaves external addresses to kube-proxy; use `partial` to take them over",
    },
    Rule {
        keys: ["kubeProxyReplacement", "socketLB.enabled"],
        broken: |c, _| {
            c.kube_proxy_replacement == KubeProxyReplacement::False && c.socket_lb.enabled
        },
        why: "`false` leaves the host's sockets to kube-proxy; use `partial` to take them over",
    },
    Rule {
        keys: ["kubeProxyReplacement", "hostPort.enabled"],
        broken: |c, _| c.kube_proxy_replacement == KubeProxyReplacement::False && c.host_port,
        why: "`false` leaves hostPorts to `portmap`; use `partial` to take them over",
    },
    Rule {
        keys: ["socketLB.hostNamespaceOnly", "socketLB.enabled"],
        broken: |c, _| c.socket_lb.host_namespace_only && !c.socket_lb.enabled,
        why: "without socket load-balancing there is nothing to limit to the host",
    },
    Rule {
        keys: ["nodePort.bindProtection", "nodePort.enabled"],
        broken: |c, _| c.node_port.bind_protection && !c.node_port.enabled,
        why: "there is no NodePort to protect",
    },
    Rule {
        keys: ["nodePort.bindProtection", "socketLB.enabled"],
        broken: |c, given| {
            given.has("nodePort.bindProtection")
                && c.node_port.bind_protection
                && !c.socket_lb.enabled
        },
        why: "the programs that see bind() belong to socket load-balancing",
    },
    Rule {
        keys: ["bpf.snatPortRange", "nodePort.range"],
        broken: |c, _| c.bpf.snat_port_range.overlaps(c.node_port.range),
        why: "a reply to an SNAT port would be taken for a NodePort request",
    },
    Rule {
        keys: ["kubeProxyReplacementHealthzBindAddr", "nodePort.range"],
        broken: |c, _| {
            let mut ports = c.healthz_bind.iter().map(|address| address.port());
            c.node_port.enabled && ports.any(|port| c.node_port.range.contains(port))
        },
        why: "the health port must not be one that a NodePort may get",
    },
    Rule {
        keys: ["manifests", "k8sServiceHost"],
        broken: |c, given| c.manifests.is_some() && given.has("k8sServiceHost"),
        why: "there is one source of services; take one of the two away",
    },
    Rule {
        keys: ["manifests", "kubeconfig"],
        broken: |c, _| c.manifests.is_some() && c.k8s.kubeconfig.is_some(),
        why: "there is one source of services; take one of the two away",
    },
    Rule {
        keys: ["kubeconfig", "k8sServiceHost"],
        broken: |c, given| c.k8s.kubeconfig.is_some() && given.has("k8sServiceHost"),
        why: "both name the API server",
    },
    Rule {
        keys: ["manifests", "k8s.apiServerURLs"],
        broken: |c, _| c.manifests.is_some() && !c.k8s.api_server_urls.is_empty(),
        why: "there is one source of services; take one of the two away",
    },
    Rule {
        keys: ["kubeconfig", "k8s.apiServerURLs"],
        broken: |c, _| c.k8s.kubeconfig.is_some() && !c.k8s.api_server_urls.is_empty(),
        why: "both name the API server",
    },
    Rule {
        keys: ["k8s.apiServerURLs", "k8sServiceHost"],
        broken: |c, given| !c.k8s.api_server_urls.is_empty() && given.has("k8sServiceHost"),
        why: "both name the API server",
    },
    Rule {
        keys: ["k8sServicePort", "k8sServiceHost"],
        broken: |c, given| given.has("k8sServicePort") && c.k8s.service_host.is_none(),
        why: "a port needs the host that it belongs to",
    },
    Rule {
        keys: ["loadBalancer.mode", "kubeProxyReplacement"],
        broken: |c, _| {
            c.load_balancer.mode != LbMode::Snat
                && c.kube_proxy_replacement == KubeProxyReplacement::False
        },
        why: "`false` leaves clients outside to kube-proxy",
    },
    Rule {
        keys: ["loadBalancer.mode", "routingMode"],
        broken: |c, _| {
            c.load_balancer.mode != LbMode::Snat
                && c.routing_mode == RoutingMode::Tunnel
                && c.load_balancer.dsr_dispatch != DsrDispatch::Geneve
        },
        why: "in a tunnel only `loadBalancer.dsrDispatch: geneve` can name the service",
    },
    Rule {
        keys: ["loadBalancer.mode", "loadBalancer.dsrKeyFile"],
        broken: |c, _| {
            let keyed = c.load_balancer.dsr_key_file.is_some() || c.load_balancer.dsr_plain;
            c.load_balancer.mode != LbMode::Snat && c.manifests.is_some() && !keyed
        },
        why: "without an API server the nodes have nothing in common to make a key from; give one",
    },
    Rule {
        keys: ["loadBalancer.dsrPlain", "loadBalancer.dsrKeyFile"],
        broken: |c, _| c.load_balancer.dsr_plain && c.load_balancer.dsr_key_file.is_some(),
        why: "plain requests carry no proof that a key could make",
    },
    Rule {
        keys: ["bpf.flowsNewMax", "bpf.flowsMax"],
        broken: |c, _| c.bpf.flows_new_max > c.bpf.flows_max,
        why: "there cannot be more half-open flows than flows",
    },
    Rule {
        keys: ["bpf.targetsMax", "bpf.backendsMax"],
        broken: |c, _| c.bpf.targets_max > c.bpf.backends_max,
        why: "every target is some service's backend",
    },
];

/// A value that has a name already and no effect yet.
struct Missing {
    key: &'static str,
    asked: fn(&Config) -> bool,
}

const MISSING: &[Missing] =
    &[Missing { key: "routingMode", asked: |c| c.routing_mode != RoutingMode::Native }];

/// A size that must lie between 1 and `max`.
struct Bound {
    key: &'static str,
    value: fn(&Config) -> u32,
    max: u32,
}

const BOUNDS: &[Bound] = &[
    Bound { key: "bpf.servicesMax", value: |c| c.bpf.services_max, max: 1 << 24 },
    Bound { key: "bpf.backendsMax", value: |c| c.bpf.backends_max, max: 1 << 24 },
    Bound { key: "bpf.targetsMax", value: |c| c.bpf.targets_max, max: 1 << 24 },
    Bound { key: "bpf.flowsMax", value: |c| c.bpf.flows_max, max: 1 << 26 },
    Bound { key: "bpf.flowsNewMax", value: |c| c.bpf.flows_new_max, max: 1 << 26 },
    Bound { key: "bpf.endpointsMax", value: |c| c.bpf.endpoints_max, max: 1 << 20 },
    Bound { key: "bpf.ownedMax", value: |c| c.bpf.owned_max, max: 1 << 20 },
    Bound { key: "bpf.vipsMax", value: |c| c.bpf.vips_max, max: 1 << 24 },
    Bound { key: "bpf.sourceRangesMax", value: |c| c.bpf.source_ranges_max, max: 1 << 24 },
    Bound { key: "bpf.affinitiesMax", value: |c| c.bpf.affinities_max, max: 1 << 24 },
    Bound { key: "bpf.maglevMax", value: |c| c.bpf.maglev_max, max: 1 << 27 },
];

/// The least MTU IPv6 lives with (RFC 8200 §5), and the greatest a device can have.
const MTU: std::ops::RangeInclusive<u32> = 1280..=65_535;

/// Refuses what contradicts itself and what this version cannot do.
pub(super) fn check(config: &Config, given: &Given) -> Result<(), Error> {
    for bound in BOUNDS {
        let value = (bound.value)(config);
        if !(1..=bound.max).contains(&value) {
            let reason = format!("{value} is not between 1 and {}", bound.max);
            return Err(Error::Value { origin: format!("`{}`", bound.key), reason });
        }
    }
    if config.mtu != 0 && !MTU.contains(&config.mtu) {
        let reason = format!("{} is not between {} and {}", config.mtu, MTU.start(), MTU.end());
        return Err(Error::Value { origin: "`MTU`".to_owned(), reason });
    }
    if config.healthz_bind.is_empty() {
        let origin = "`kubeProxyReplacementHealthzBindAddr`".to_owned();
        return Err(Error::Value { origin, reason: "name at least one address".to_owned() });
    }
    for rule in RULES {
        if (rule.broken)(config, given) {
            let [first, second] = rule.keys.map(|key| format!("{key}: {}", shown(key, config)));
            return Err(Error::Combination { first, second, why: rule.why });
        }
    }
    for missing in MISSING {
        if (missing.asked)(config) {
            return Err(Error::NotSupported {
                key: missing.key.to_owned(),
                value: shown(missing.key, config),
            });
        }
    }
    Ok(())
}

fn shown(key: &str, config: &Config) -> String {
    keys::find(key).map(|key| (key.get)(config)).unwrap_or_default()
}

/// How many rules there are, so that the tests cannot forget one.
#[cfg(test)]
pub(super) fn count() -> usize {
    RULES.len()
}
