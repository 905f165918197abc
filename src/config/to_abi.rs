// SPDX-License-Identifier: Apache-2.0
//! The part of the configuration that programs carry in their `.rodata`.

use std::net::IpAddr;

use super::{Config, DsrDispatch, KubeProxyReplacement};
use crate::abi::{self, ticks};

impl Config {
    /// `CONFIG` of every program object. `bpf_host_routing` is what was found possible, and
    /// `host_netns_cookie` is `SO_NETNS_COOKIE` of the node's network namespace.
    pub fn datapath(&self, host_netns_cookie: u64, bpf_host_routing: bool) -> abi::Config {
        let replaces = self.kube_proxy_replacement != KubeProxyReplacement::False;
        abi::Config {
            host_netns_cookie,
            hairpin_v4: IpAddr::V4(self.bpf.hairpin_v4).into(),
            hairpin_v6: IpAddr::V6(self.bpf.hairpin_v6).into(),
            nodeport_min: self.node_port.range.min,
            nodeport_max: self.node_port.range.max,
            snat_port_min: self.bpf.snat_port_range.min,
            snat_port_max: self.bpf.snat_port_range.max,
            tcp_syn_timeout: ticks(self.flow_timeouts.tcp_syn),
            tcp_established_timeout: ticks(self.flow_timeouts.tcp_established),
            tcp_closing_timeout: ticks(self.flow_timeouts.tcp_closing),
            udp_unreplied_timeout: ticks(self.flow_timeouts.udp_unreplied),
            udp_stream_timeout: ticks(self.flow_timeouts.udp_stream),
            maglev_seed: self.maglev_seed.0,
            socket_lb: self.socket_lb.enabled.into(),
            socket_lb_host_only: self.socket_lb.host_namespace_only.into(),
            bind_protection: self.node_port.bind_protection.into(),
            nodeport: (replaces && self.node_port.enabled).into(),
            bpf_host_routing: (bpf_host_routing && self.may_pass_the_stack()).into(),
            spoof_check: self.bpf.source_check.into(),
            external_ips_inside: self.external_ips_inside.into(),
            // Also where this node sends none: the others may.
            dsr_dispatch: match self.load_balancer.dsr_dispatch {
                _ if !replaces => abi::DsrDispatch::Off,
                DsrDispatch::Opt => abi::DsrDispatch::Option,
                DsrDispatch::Ipip => abi::DsrDispatch::Ipip,
                DsrDispatch::Geneve => abi::DsrDispatch::Geneve,
            } as u8,
            dsr_plain_in: self.load_balancer.dsr_plain.into(),
            dsr_plain_out: self.load_balancer.dsr_plain.into(),
            pad: [0; 6],
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes as _;

    use super::*;
    use crate::config::keys;

    /// Keys that programs obey, with another value than the default.
    const KEYS: &[(&str, &str)] = &[
        ("kubeProxyReplacement", "false"),
        ("nodePort.enabled", "false"),
        ("nodePort.range", "30000,60000"),
        ("nodePort.bindProtection", "false"),
        ("externalIPs.servedInside", "true"),
        ("loadBalancer.dsrDispatch", "ipip"),
        ("loadBalancer.dsrDispatch", "geneve"),
        ("loadBalancer.dsrPlain", "true"),
        ("socketLB.enabled", "false"),
        ("socketLB.hostNamespaceOnly", "true"),
        ("bpf.hostLegacyRouting", "true"),
        ("bpf.sourceCheck", "false"),
        ("bpf.snatPortRange", "40000,50000"),
        ("bpf.hairpinIPv4", "169.254.1.1"),
        ("bpf.hairpinIPv6", "fe80::1"),
        ("maglev.hashSeed", "AAAAAAAAAAAAAAAB"),
        ("flowTimeouts.tcpSyn", "7s"),
        ("flowTimeouts.tcpEstablished", "7s"),
        ("flowTimeouts.tcpClosing", "7s"),
        ("flowTimeouts.udpUnreplied", "7s"),
        ("flowTimeouts.udpStream", "7s"),
    ];

    #[test]
    fn each_key_that_programs_obey_reaches_them() {
        let bytes = |config: &Config| config.datapath(1, true).as_bytes().to_vec();
        let mut seen = vec![bytes(&Config::default())];
        for (name, value) in KEYS {
            let mut config = Config::default();
            (keys::find(name).unwrap().set)(&mut config, value).unwrap();
            // Switches off what `false` has switched off.
            if *name != "nodePort.enabled" {
                assert!(!seen.contains(&bytes(&config)), "{name}");
            }
            seen.push(bytes(&config));
        }
        assert_eq!(Config::default().datapath(1, false).bpf_host_routing, 0);
    }
}
