// SPDX-License-Identifier: Apache-2.0
//! The rules that kube-proxy's nftables mode writes, in their shape: one verdict map for addresses
//! and one for NodePorts, a chain a service that picks an endpoint by chance, a chain an endpoint
//! that translates, a mark for what is to be masqueraded.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{BACKENDS, Service};

/// Loads the rules for `services` into the network namespace of this thread.
pub fn load(services: &[Service]) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft; `make bench` installs it");
    nft.stdin.take().unwrap().write_all(rules(services).as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft refuses the rules");
}

fn rules(services: &[Service]) -> String {
    let mut text = String::from(
        "table ip kube-proxy {
        map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
        map service-nodeports { type inet_proto . inet_service : verdict; }
        chain mark-for-masquerade { meta mark set meta mark | 0x4000; }
        chain services {
            ip daddr . meta l4proto . th dport vmap @service-ips
            ip daddr 10.50.0.1 meta l4proto . th dport vmap @service-nodeports
        }
        chain prerouting { type nat hook prerouting priority dstnat; jump services; }
        chain output { type nat hook output priority -100; jump services; }
        chain postrouting {
            type nat hook postrouting priority srcnat;
            meta mark & 0x4000 == 0 return
            meta mark set meta mark ^ 0x4000
            masquerade fully-random
        }\n",
    );
    for (number, service) in services.iter().enumerate() {
        let mut picks = Vec::new();
        for (slot, backend) in service.backends.iter().enumerate() {
            let (host, port) = (backend.ip(), backend.port());
            writeln!(
                text,
                "chain endpoint-{number}-{slot} {{
                    ip saddr {host} jump mark-for-masquerade
                    meta l4proto tcp dnat ip to {host}:{port}
                }}"
            )
            .unwrap();
            picks.push(format!("{slot} : goto endpoint-{number}-{slot}"));
        }
        writeln!(
            text,
            "chain service-{number} {{ numgen random mod {BACKENDS} vmap {{ {} }}; }}
            chain external-{number} {{ jump mark-for-masquerade; goto service-{number}; }}",
            picks.join(", ")
        )
        .unwrap();
    }
    text.push_str("}\n");
    for (number, service) in services.iter().enumerate() {
        let (vip, port) = (service.cluster_ip.ip(), service.cluster_ip.port());
        writeln!(
            text,
            "add element ip kube-proxy service-ips {{ {vip} . tcp . {port} : goto service-{number} }}
            add element ip kube-proxy service-nodeports {{ tcp . {} : goto external-{number} }}",
            service.node_port
        )
        .unwrap();
    }
    text
}
