// SPDX-License-Identifier: Apache-2.0
//! Pure: for every feature what was asked for, what is in effect, and why the two differ.

use anyhow::{Result, ensure};

use super::acceleration::Acceleration;
use super::status::{Feature, Features};
use crate::config::{Algorithm, Config, DsrDispatch, KubeProxyReplacement, LbMode, RoutingMode};
use crate::datapath::probe::Probe;
use crate::lb::{self, Context, Forwarding, Selection, Serve, maglev};

const LATER: &str = "not in this version";

/// What the choice of frontends and endpoints depends on, but for the zone.
pub fn context(config: &Config, forwarding: Forwarding) -> Context {
    let replaces = config.kube_proxy_replacement != KubeProxyReplacement::False;
    let range = config.node_port.range;
    let serve = Serve {
        node_ports: (replaces && config.node_port.enabled).then_some(range.min..=range.max),
        external: replaces && config.external_ips,
        host_ports: replaces && config.host_port,
        source_ranges_all_types: config.load_balancer.source_ranges_all_types,
        classes: config.load_balancer.classes.clone(),
        forwarding,
    };
    Context { serve, ..Context::of(&config.node_name) }
}

/// How backends are chosen for clients outside; the size of the map is found in the map.
pub fn selection(config: &Config) -> Selection {
    let algorithm = match config.load_balancer.algorithm {
        Algorithm::Random => lb::Algorithm::Random,
        Algorithm::Maglev => lb::Algorithm::Maglev,
    };
    Selection { algorithm, seed: config.maglev_seed.0, words: 0 }
}

/// What the kernel must have for `kubeProxyReplacement: true`.
const REQUIRED: [&str; 5] =
    ["cgroup2", "socket address programs", "socket storage", "fib lookup", "ring buffer"];

/// `kubeProxyReplacement: true` is all or nothing.
///
/// # Errors
/// The kernel lacks something; the text names it.
pub fn check(config: &Config, probe: &Probe) -> Result<()> {
    if config.kube_proxy_replacement != KubeProxyReplacement::True {
        return Ok(());
    }
    let missing: Vec<&str> = probe.missing(&REQUIRED).iter().map(|feature| feature.name).collect();
    ensure!(
        missing.is_empty(),
        "kernel {} lacks what `kubeProxyReplacement: true` needs: {}; use `partial`, see \
         `culvert probe`",
        probe.kernel,
        missing.join(", ")
    );
    ensure!(
        config.load_balancer.mode == LbMode::Snat
            || config.load_balancer.dsr_dispatch != DsrDispatch::Geneve
            || probe.has("geneve"),
        "kernel {} lacks Geneve, which `loadBalancer.dsrDispatch: geneve` needs; choose another, or \
         `kubeProxyReplacement: partial` to do without",
        probe.kernel
    );
    Ok(())
}

/// Whether the kernel has what forwarding past the host's stack takes.
pub fn bpf_host_routing(probe: &Probe) -> bool {
    probe.missing(&["fib lookup", "redirect_neigh", "redirect_peer"]).is_empty()
}

/// `socket_lb`: its programs are attached. `dsr`: what [`super::dsr::Dsr::features`] says.
pub fn of(config: &Config, probe: &Probe, socket_lb: bool, dsr: (Feature, Feature)) -> Features {
    let replaces = config.kube_proxy_replacement != KubeProxyReplacement::False;
    let served = |on: bool| Feature::switch(replaces && on);
    Features {
        kube_proxy_replacement: replacement(config, socket_lb),
        socket_lb: match (config.socket_lb.enabled, socket_lb) {
            (true, false) => {
                Feature::instead("Enabled", "Disabled", "the cgroup programs are not attached")
            }
            (on, _) => Feature::switch(on),
        },
        socket_lb_tracing: Feature::absent(LATER),
        socket_lb_coverage: Feature::as_requested(if config.socket_lb.host_namespace_only {
            "Hostns-only"
        } else {
            "Full"
        }),
        mode: dsr.0,
        dsr_dispatch: dsr.1,
        backend_selection: match config.load_balancer.algorithm {
            Algorithm::Random => Feature::as_requested("Random"),
            Algorithm::Maglev => {
                let [least, most] = [1, usize::MAX].map(maglev::size);
                let sizes = format!("Maglev (Table Size: {least} to {most}, by endpoints)");
                Feature::as_requested(&sizes)
            }
        },
        session_affinity: Feature::switch(replaces),
        nat46x64: Feature::absent(LATER),
        xdp_acceleration: Acceleration::new(config.load_balancer.acceleration).feature(),
        cluster_ip: Feature::switch(true),
        node_port: served(config.node_port.enabled),
        load_balancer: served(config.external_ips),
        external_ips: served(config.external_ips),
        host_port: served(config.host_port),
        routing: match config.routing_mode {
            RoutingMode::Native => Feature::as_requested("Native"),
            RoutingMode::Tunnel => Feature::instead("Tunnel", "Native", LATER),
        },
        host_routing: host_routing(config, probe),
        masquerading: Feature::absent(LATER),
        bandwidth_manager: Feature::absent(LATER),
        ipv6_big_tcp: Feature::absent(LATER),
        network_policy: Feature::as_requested("Not supported"),
    }
}

fn replacement(config: &Config, socket_lb: bool) -> Feature {
    match config.kube_proxy_replacement {
        KubeProxyReplacement::True => Feature::as_requested("True"),
        KubeProxyReplacement::False => Feature::as_requested("False"),
        KubeProxyReplacement::Partial if config.socket_lb.enabled && !socket_lb => {
            Feature::instead("Partial", "Partial", "without socket load balancing")
        }
        KubeProxyReplacement::Partial => Feature::as_requested("Partial"),
    }
}

fn host_routing(config: &Config, probe: &Probe) -> Feature {
    if config.bpf.host_legacy_routing {
        return Feature::as_requested("Legacy");
    }
    if !config.may_pass_the_stack() {
        return Feature::instead("BPF", "Legacy", "kube-proxy's rules are in the host's stack");
    }
    if bpf_host_routing(probe) {
        return Feature::as_requested("BPF");
    }
    let missing = probe.missing(&["fib lookup", "redirect_neigh", "redirect_peer"]);
    let missing: Vec<&str> = missing.iter().map(|feature| feature.name).collect();
    Feature::instead("BPF", "Legacy", format!("the kernel lacks {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::probe;

    /// What this machine's kernel would be without some features.
    fn without(names: &[&str]) -> Probe {
        let mut probe = probe::run(std::path::Path::new("/nowhere"));
        for feature in &mut probe.features {
            feature.present = !names.contains(&feature.name);
        }
        probe
    }

    fn dsr() -> (Feature, Feature) {
        (Feature::as_requested("SNAT"), Feature::as_requested("IPIP"))
    }

    #[test]
    fn true_needs_everything_and_partial_says_what_is_off() {
        let probe = without(&["socket storage", "redirect_neigh", "tcx"]);
        let mut config = Config::default();
        let error = check(&config, &probe).unwrap_err().to_string();
        assert!(error.contains("needs: socket storage; use `partial`"), "{error}");
        check(&config, &without(&["redirect_neigh", "tcx"])).unwrap();

        let mut geneve = Config::default();
        geneve.load_balancer.mode = LbMode::Hybrid;
        check(&geneve, &without(&["geneve"])).unwrap();
        geneve.load_balancer.dsr_dispatch = DsrDispatch::Geneve;
        check(&geneve, &without(&[])).unwrap();
        let error = check(&geneve, &without(&["geneve"])).unwrap_err().to_string();
        assert!(error.contains("`loadBalancer.dsrDispatch: geneve`"), "{error}");

        config.kube_proxy_replacement = KubeProxyReplacement::Partial;
        check(&config, &probe).unwrap();
        let features = of(&config, &probe, false, dsr());
        assert_eq!(features.kube_proxy_replacement.reason, "without socket load balancing");
        assert_eq!(features.socket_lb.effective, "Disabled");
        assert_eq!(features.host_routing.effective, "Legacy");
        assert_eq!(features.host_routing.reason, "the kernel lacks redirect_neigh");
        assert_eq!(of(&config, &without(&[]), true, dsr()).host_routing.effective, "BPF");

        config.kube_proxy_replacement = KubeProxyReplacement::False;
        let routing = of(&config, &without(&[]), false, dsr()).host_routing;
        assert_eq!(routing.effective, "Legacy");
        assert_eq!(routing.reason, "kube-proxy's rules are in the host's stack");

        config.load_balancer.algorithm = Algorithm::Maglev;
        let chosen = of(&config, &probe, false, dsr()).backend_selection.effective;
        assert_eq!(chosen, "Maglev (Table Size: 2999 to 191936, by endpoints)");
    }

    #[test]
    fn every_required_feature_is_probed() {
        let names: Vec<&str> = without(&[]).features.iter().map(|each| each.name).collect();
        for name in REQUIRED {
            assert!(names.contains(&name), "{name}");
        }
    }
}
