// SPDX-License-Identifier: Apache-2.0
//! What is refused, and in which words.

use super::{error, file};

#[test]
fn what_is_wrong_is_named() {
    for (text, message) in [
        (
            "nodePort: {rnage: \"1,2\"}",
            "unknown key `nodePort.rnage` in `c.yaml`; did you mean `nodePort.range`?",
        ),
        (
            "node-port-range: x",
            "unknown key `node-port-range` in `c.yaml`; did you mean `nodePort.range`?",
        ),
        ("zzzzzz: 1", "unknown key `zzzzzz` in `c.yaml`"),
        (
            "cni: yes",
            "unknown key `cni` in `c.yaml`; `cni` is a group of keys: cni.install, cni.confPath, cni.exclusive",
        ),
        (
            "devices: {eth0: true}",
            "unknown key `devices.eth0` in `c.yaml`; `devices` is one key; write LIST after it",
        ),
        ("logLevel: loud", "`logLevel` in `c.yaml`: `loud` is none of off, error, warn, info, "),
        ("MTU: \"\"", "`MTU` in `c.yaml`: it is empty; write NUMBER, or leave it out"),
        (
            "ipv4NativeRoutingCIDR: 10.0.0.0/33",
            "`ipv4NativeRoutingCIDR` in `c.yaml`: `10.0.0.0/33` is no IPv4 CIDR; write it as `10.0.0.0/8`",
        ),
        ("MTU: [1]\nMTU: 2", "`c.yaml` is not YAML: "),
        ("- a", "`c.yaml` holds no mapping of keys"),
        (
            "nodePort: {range: \"5\"}",
            "`nodePort.range` in `c.yaml`: `5` is no port range; write it as `30000,32767`",
        ),
        (
            "loadBalancer: {mode: nat}",
            "`loadBalancer.mode` in `c.yaml`: `nat` is none of snat, dsr, hybrid",
        ),
        ("routingMode: tunnel", "`routingMode: tunnel` is not supported by this version"),
        ("tunnel: vxlan", "`routingMode: tunnel` is not supported by this version"),
        ("bpf: {masquerade: true}", "`bpf.masquerade: true` is not supported by this version"),
        (
            "egressGateway: {enabled: true}",
            "`egressGateway.enabled: true` is not supported by this version",
        ),
        ("bpf: {flowsMax: 0}", "`bpf.flowsMax`: 0 is not between 1 and 67108864"),
        (
            "kubeProxyReplacementHealthzBindAddr: []",
            "`kubeProxyReplacementHealthzBindAddr`: name at least one address",
        ),
        ("MTU: 900", "`MTU`: 900 is not between 1280 and 65535"),
    ] {
        let error = error(text);
        assert!(error.starts_with(message), "{text}\n got: {error}\nwant: {message}");
    }
}

#[test]
fn a_misspelt_name_in_the_environment_is_refused_and_a_strange_one_warns() {
    let mut inputs = file("");
    inputs.env.insert("CULVERT_SOMETHING_ELSE".into(), "1".into());
    assert_eq!(inputs.resolve().unwrap().warnings.len(), 1);
    inputs.env.insert("CULVERT_NODE_PORT_RNAGE".into(), "30000,30100".into());
    let error = inputs.resolve().unwrap_err().to_string();
    assert!(error.ends_with("did you mean `CULVERT_NODE_PORT_RANGE`?"), "{error}");
}

#[test]
fn an_agent_without_any_source_is_told_how_to_name_one() {
    let told = |text: &str| file(text).resolve().unwrap().check_source();
    let refused = told("kubeProxyReplacement: true").unwrap_err().to_string();
    for key in ["manifests", "k8sServiceHost", "k8s.apiServerURLs", "kubeconfig"] {
        assert!(refused.contains(&format!("`{key}`")), "{refused}");
        let value = if key == "k8s.apiServerURLs" { "[https://a]" } else { "/m" };
        assert_eq!(told(&format!("{}: {value}", key.replace("k8s.", "k8s:\n  "))), Ok(()), "{key}");
    }
}
