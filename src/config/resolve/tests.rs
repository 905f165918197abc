// SPDX-License-Identifier: Apache-2.0
//! Precedence, unknown keys and every rule.

use super::*;
use crate::config::{Acceleration, Source};

mod wrong;

fn file(text: &str) -> Inputs {
    Inputs {
        file: Some(("c.yaml".into(), text.to_owned())),
        host: HostFacts { hostname: "Node-1".into(), cgroup2: Some("/sys/fs/cgroup".into()) },
        ..Inputs::default()
    }
}

fn error(text: &str) -> String {
    file(text).resolve().unwrap_err().to_string()
}

#[test]
fn an_empty_file_gives_the_defaults_of_this_host() {
    let config = file("").resolve().unwrap();
    assert_eq!(config.node_name, "node-1");
    assert_eq!(config.cgroup_root, PathBuf::from("/sys/fs/cgroup"));
    assert_eq!(config.socket, PathBuf::from("/run/culvert/culvert.sock"));
    assert_eq!(config.bpf.snat_port_range, PortRange { min: 32768, max: 65535 });
    assert_eq!(config.bpf.maglev_max, 131_072);
    let config = file("loadBalancer: {algorithm: maglev}").resolve().unwrap();
    assert_eq!(config.bpf.maglev_max, 7_900_000);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let mut inputs = file("");
    let range = |inputs: &Inputs| inputs.resolve().unwrap().node_port.range.min;
    assert_eq!(range(&inputs), 30000);
    inputs.file = Some(("c.yaml".into(), "nodePort: {range: \"30001,30100\"}".into()));
    assert_eq!(range(&inputs), 30001);
    inputs.env.insert("CULVERT_NODE_PORT_RANGE".into(), "30002,30100".into());
    assert_eq!(range(&inputs), 30002);
    inputs.flags.push(("nodePort.range", "30003,30100".into()));
    assert_eq!(range(&inputs), 30003);
}

#[test]
fn the_api_server_is_found_under_every_name_and_the_file_beats_the_ambient_one() {
    let mut inputs = file("");
    inputs.env.insert("API_SERVER_IP".into(), "10.0.0.9".into());
    inputs.env.insert("API_SERVER_PORT".into(), "6443".into());
    let config = inputs.resolve().unwrap();
    assert_eq!(config.k8s.service_host.as_deref(), Some("10.0.0.9"));
    assert_eq!(config.k8s.service_port, 6443);

    // Every pod has this one, and it is a service address: only what somebody wrote for us can
    // be reached before any service is served.
    inputs.env.insert("KUBERNETES_SERVICE_HOST".into(), "10.96.0.1".into());
    assert_eq!(inputs.resolve().unwrap().k8s.service_host.as_deref(), Some("10.0.0.9"));
    inputs.env.remove("API_SERVER_IP");
    assert_eq!(inputs.resolve().unwrap().k8s.service_host.as_deref(), Some("10.96.0.1"));

    inputs.file = Some(("c.yaml".into(), "k8sServiceHost: 10.0.0.1".into()));
    assert_eq!(inputs.resolve().unwrap().k8s.service_host.as_deref(), Some("10.0.0.1"));
}

#[test]
fn the_api_server_in_a_pods_environment_does_not_forbid_manifests() {
    let mut inputs = file("manifests: /m");
    inputs.env.insert("KUBERNETES_SERVICE_HOST".into(), "10.96.0.1".into());
    inputs.env.insert("KUBERNETES_SERVICE_PORT".into(), "443".into());
    assert_eq!(inputs.resolve().unwrap().source(), Source::Manifests { dir: "/m".into() });
}

#[test]
fn health_is_served_on_one_address_or_several() {
    let both = ["0.0.0.0:1025", "[::1]:10256"].map(|address| address.parse().unwrap());
    for text in [r#""0.0.0.0:1025,[::1]:10256""#, r#"["0.0.0.0:1025", "[::1]:10256"]"#] {
        let config = file(&format!("kubeProxyReplacementHealthzBindAddr: {text}")).resolve();
        assert_eq!(config.unwrap().healthz_bind, both, "{text}");
    }
    let mut inputs = file("kubeProxyReplacementHealthzBindAddr: \"[::1]:9\"");
    assert_eq!(inputs.resolve().unwrap().healthz_bind, ["[::1]:9".parse().unwrap()]);
    let env = "CULVERT_KUBE_PROXY_REPLACEMENT_HEALTHZ_BIND_ADDR";
    inputs.env.insert(env.into(), "0.0.0.0:1025, [::1]:10256".into());
    assert_eq!(inputs.resolve().unwrap().healthz_bind, both);
}

#[test]
fn the_notes_example_is_read() {
    let text = "kubeProxyReplacement: \"true\"\n\
                kubeProxyReplacementHealthzBindAddr: \"0.0.0.0:1025\"\n\
                loadBalancer:\n  mode: snat\n  acceleration: best-effort\n\
                nodePort:\n  enabled: true\n  range: \"30000,60000\"\n\
                devices: [eth0, bond+]\nMTU: 1450\nbpf: {masquerade: false}\n";
    let config = file(text).resolve().unwrap();
    assert_eq!(config.node_port.range, PortRange { min: 30000, max: 60000 });
    // The 5,535 ports above would be a trap; the 28,976 below are taken.
    assert_eq!(config.bpf.snat_port_range, PortRange { min: 1024, max: 29999 });
    assert_eq!(config.load_balancer.acceleration, Acceleration::BestEffort);
    assert_eq!(config.devices, ["eth0", "bond+"]);
    assert_eq!(config.mtu, 1450);
}

#[test]
fn older_spellings_work_and_warn() {
    let config = file("kubeProxyReplacement: strict\ntunnel: disabled").resolve().unwrap();
    assert_eq!(config.kube_proxy_replacement, KubeProxyReplacement::True);
    assert_eq!(
        config.warnings,
        [
            "`tunnel` in `c.yaml` is deprecated; write `routingMode: native` instead",
            "`kubeProxyReplacement` in `c.yaml`: `strict` is deprecated; \
             write `kubeProxyReplacement: \"true\"`",
        ]
    );
    let config = file("kubeProxyReplacement: disabled").resolve().unwrap();
    assert!(!config.node_port.enabled && !config.external_ips && !config.socket_lb.enabled);
    assert!(!config.node_port.bind_protection);
    assert!(file("kubeProxyReplacement: partial\nnodePort: {enabled: false}").resolve().is_ok());

    let config = file("bpf: {disableExternalIPMitigation: true}").resolve().unwrap();
    assert!(config.external_ips_inside);
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    let config = file("bpf: {disableExternalIPMitigation: false}").resolve().unwrap();
    assert!(!config.external_ips_inside && config.warnings.is_empty());
}

#[test]
fn every_rule_names_both_keys() {
    let broken: &[(&str, [&str; 2])] = &[
        ("nodePort: {enabled: false}", ["kubeProxyReplacement: true", "nodePort.enabled: false"]),
        (
            "externalIPs: {enabled: false}",
            ["kubeProxyReplacement: true", "externalIPs.enabled: false"],
        ),
        ("socketLB: {enabled: false}", ["kubeProxyReplacement: true", "socketLB.enabled: false"]),
        (
            "{kubeProxyReplacement: false, nodePort: {enabled: true}}",
            ["kubeProxyReplacement: false", "nodePort.enabled: true"],
        ),
        (
            "{kubeProxyReplacement: false, externalIPs: {enabled: true}}",
            ["kubeProxyReplacement: false", "externalIPs.enabled: true"],
        ),
        (
            "{kubeProxyReplacement: false, socketLB: {enabled: true}}",
            ["kubeProxyReplacement: false", "socketLB.enabled: true"],
        ),
        (
            "{kubeProxyReplacement: false, hostPort: {enabled: true}}",
            ["kubeProxyReplacement: false", "hostPort.enabled: true"],
        ),
        (
            "{kubeProxyReplacement: partial, socketLB: {enabled: false, hostNamespaceOnly: true}}",
            ["socketLB.hostNamespaceOnly: true", "socketLB.enabled: false"],
        ),
        (
            "{kubeProxyReplacement: partial, nodePort: {enabled: false, bindProtection: true}}",
            ["nodePort.bindProtection: true", "nodePort.enabled: false"],
        ),
        (
            "{kubeProxyReplacement: partial, socketLB: {enabled: false}, nodePort: {bindProtection: true}}",
            ["nodePort.bindProtection: true", "socketLB.enabled: false"],
        ),
        (
            "bpf: {snatPortRange: \"32000,40000\"}",
            ["bpf.snatPortRange: 32000,40000", "nodePort.range: 30000,32767"],
        ),
        (
            "kubeProxyReplacementHealthzBindAddr: [\"0.0.0.0:1025\", \"0.0.0.0:30100\"]",
            [
                "kubeProxyReplacementHealthzBindAddr: 0.0.0.0:1025,0.0.0.0:30100",
                "nodePort.range: 30000,32767",
            ],
        ),
        (
            "{manifests: /m, k8sServiceHost: 10.0.0.1}",
            ["manifests: /m", "k8sServiceHost: 10.0.0.1"],
        ),
        ("{manifests: /m, kubeconfig: /k}", ["manifests: /m", "kubeconfig: /k"]),
        (
            "{kubeconfig: /k, k8sServiceHost: 10.0.0.1}",
            ["kubeconfig: /k", "k8sServiceHost: 10.0.0.1"],
        ),
        (
            "{manifests: /m, k8s: {apiServerURLs: [\"https://a\"]}}",
            ["manifests: /m", "k8s.apiServerURLs: https://a"],
        ),
        (
            "{kubeconfig: /k, k8s: {apiServerURLs: [\"https://a\", \"https://b\"]}}",
            ["kubeconfig: /k", "k8s.apiServerURLs: https://a,https://b"],
        ),
        (
            "{k8sServiceHost: 10.0.0.1, k8s: {apiServerURLs: [\"https://a\"]}}",
            ["k8s.apiServerURLs: https://a", "k8sServiceHost: 10.0.0.1"],
        ),
        ("k8sServicePort: 6443", ["k8sServicePort: 6443", "k8sServiceHost: "]),
        (
            "{kubeProxyReplacement: false, loadBalancer: {mode: dsr}}",
            ["loadBalancer.mode: dsr", "kubeProxyReplacement: false"],
        ),
        (
            "{tunnel: vxlan, loadBalancer: {mode: hybrid}}",
            ["loadBalancer.mode: hybrid", "routingMode: tunnel"],
        ),
        (
            "{manifests: /m, loadBalancer: {mode: dsr}}",
            ["loadBalancer.mode: dsr", "loadBalancer.dsrKeyFile: "],
        ),
        (
            "loadBalancer: {dsrPlain: true, dsrKeyFile: /k}",
            ["loadBalancer.dsrPlain: true", "loadBalancer.dsrKeyFile: /k"],
        ),
        ("bpf: {flowsMax: 100}", ["bpf.flowsNewMax: 65536", "bpf.flowsMax: 100"]),
        ("bpf: {backendsMax: 100}", ["bpf.targetsMax: 262144", "bpf.backendsMax: 100"]),
    ];
    for (text, [first, second]) in broken {
        let error = error(text);
        let start = format!("`{first}` and `{second}` cannot be combined: ");
        assert!(error.starts_with(&start), "{text}\n got: {error}\nwant: {start}");
    }
    assert_eq!(broken.len(), rules::count(), "a rule has no case here");
}

#[test]
fn a_key_file_or_plain_requests_make_direct_server_return_possible_without_an_api_server() {
    for text in ["mode: dsr, dsrKeyFile: /k", "mode: hybrid, dsrPlain: true, dsrDispatch: ipip"] {
        let text = format!("{{manifests: /m, loadBalancer: {{{text}}}}}");
        assert!(file(&text).resolve().is_ok(), "{text}");
    }
    assert!(file("loadBalancer: {mode: dsr, dsrDispatch: geneve}").resolve().is_ok());
}

#[test]
fn snat_ports_are_found_on_either_side_of_the_nodeports() {
    let side = |min, max| {
        let PortRange { min, max } = larger_side(PortRange { min, max });
        (min, max)
    };
    assert_eq!(side(30000, 32767), (32768, 65535));
    assert_eq!(side(30000, 60000), (1024, 29999));
    assert_eq!(side(1, 2000), (2001, 65535));
    assert_eq!(side(40000, 65535), (1024, 39999));
}
