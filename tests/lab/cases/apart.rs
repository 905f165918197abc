// SPDX-License-Identifier: Apache-2.0
//! `kubeProxyReplacement: false`: pods are connected and reach ClusterIPs, and the rest is kube-proxy's.
//! A few netfilter rules and servers of the host stand in for that.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use serde_json::json;

use super::reach::hairpin_of;
use super::stage::{Stage, ip, status};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::pod::PORT;

const NODE_PORT: u16 = 30088;
const HEALTH_PORT: u16 = 32188;
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "udp-unconnected"];

#[test]
fn without_replacement_pods_are_served_and_the_rest_is_left_to_kube_proxy() {
    // The old word.
    let stage = Stage::raise(2, "kubeProxyReplacement: disabled\n");
    let service = Service {
        name: "left",
        kind: "LoadBalancer",
        number: 88,
        node_port: Some(NODE_PORT),
        ingress: vec![ip("192.0.2.88"), ip("2001:db8:c0::88")],
        external_ips: vec![ip("198.51.100.88"), ip("2001:db8:51::88")],
        ..Service::default()
    };
    let mut objects = service.objects(&[&stage.web]);
    objects[0]["spec"]["externalTrafficPolicy"] = "Local".into();
    objects[0]["spec"]["healthCheckNodePort"] = json!(HEALTH_PORT);
    stage.lab.publish(service.name, &objects).unwrap();

    let shown = status(stage.lab.node(1));
    let effective = |feature: &str| shown["features"][feature]["effective"].clone();
    assert_eq!(effective("kubeProxyReplacement"), "False");
    assert_eq!(effective("hostRouting"), "Legacy");
    for off in
        ["socketLb", "nodePort", "loadBalancer", "externalIps", "hostPort", "sessionAffinity"]
    {
        assert_eq!(effective(off), "Disabled", "{off}");
    }

    // Pods: each other, and ClusterIPs, packet by packet.
    for v6 in [false, true] {
        let cluster = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
        for client in &stage.clients {
            for protocol in PROTOCOLS {
                let direct = SocketAddr::new(stage.far.ip(v6).unwrap(), PORT);
                stage.ask_until(&client.place, protocol, direct, |o| o.is_from("far"));
                stage.ask_until(&client.place, protocol, cluster, |o| o.is_from("web"));
            }
        }
    }
    assert_eq!(hairpin_of(&stage, &service), Vec::<String>::new());

    // No hook and no frontend: sockets are not translated, ports are free and nobody answers.
    let links = stage.bpf_root(1).join("links");
    let pins = std::fs::read_dir(links).unwrap().map(|pin| pin.unwrap().file_name());
    let of_cgroup: Vec<_> =
        pins.filter(|name| name.to_string_lossy().starts_with("cgroup")).collect();
    assert!(of_cgroup.is_empty(), "{of_cgroup:?}");
    let list = stage.lab.node(1).culvert(&["service", "list"]).unwrap();
    let mut rows = list.lines().skip(1).filter(|row| row.contains("/TCP"));
    assert!(rows.all(|row| row.contains("ClusterIP")), "{list}");
    let host = &stage.lab.node(1).place;
    let health = SocketAddr::new(node_ip(1, false), HEALTH_PORT);
    for to in [health, SocketAddr::new(health.ip(), NODE_PORT)] {
        assert!(stage.ask(&stage.lab.outside, "tcp", to).is_refusal(), "{to}");
    }
    let cluster = SocketAddr::new(service.cluster_ip(false), SERVICE_PORT);
    assert!(!stage.ask(host, "tcp", cluster).is_from("web"));

    // kube-proxy takes its NodePort itself, and so may anybody.
    let mut server = serve_on(&stage, "kube-proxy", NODE_PORT);
    for v6 in [false, true] {
        let to = SocketAddr::new(node_ip(1, v6), NODE_PORT);
        for protocol in PROTOCOLS {
            for from in [&stage.lab.outside, &stage.clients[0].place, &stage.lab.node(2).place] {
                stage.ask_until(from, protocol, to, |o| o.is_from("kube-proxy"));
            }
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();

    // kube-proxy's rules: what is translated in the host's stack is translated back there.
    stage.lab.node(1).place.netns.run(|| translate(&stage, &service));
    for v6 in [false, true] {
        let (cluster, node) = (service.cluster_ip(v6), node_ip(1, v6));
        stage.lab.outside.netns.ip(&format!("route add {cluster} via {node}"));
        let balancer = SocketAddr::new(service.ingress[usize::from(v6)], SERVICE_PORT);
        let client = stage.ask_until(&stage.lab.outside, "tcp", balancer, |o| o.is_from("web"));
        let Outcome::Answer { peer, seen, .. } = client else { unreachable!() };
        assert_eq!((peer.ip(), seen), (node_ip(100, v6), balancer), "by policy Local");
        for protocol in PROTOCOLS {
            stage.ask_until(&stage.lab.outside, protocol, balancer, |o| o.is_from("web"));
            stage.ask_until(&stage.clients[0].place, protocol, balancer, |o| o.is_from("web"));
            let cluster = SocketAddr::new(cluster, SERVICE_PORT);
            for from in [host, &stage.lab.outside] {
                stage.ask_until(from, protocol, cluster, |o| o.is_from("web"));
            }
        }
    }
}

/// A server in the host's own network.
fn serve_on(stage: &Stage, name: &str, port: u16) -> Child {
    let host = &stage.lab.node(1).place;
    let mut command = host.command(stage.program());
    command.args(["serve", name, &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    host.spawn(&mut command).unwrap()
}

/// As kube-proxy does it in its nftables mode, for one service with one endpoint.
fn translate(stage: &Stage, service: &Service) {
    let mut rules = String::from(
        "table inet kube-proxy {\n\
         chain services {\n",
    );
    for v6 in [false, true] {
        let family = if v6 { "ip6" } else { "ip" };
        let pod = SocketAddr::new(stage.web.ip(v6).unwrap(), PORT);
        for address in [service.cluster_ip(v6), service.ingress[usize::from(v6)]] {
            rules += &format!(
                "{family} daddr {address} meta l4proto {{ tcp, udp }} th dport {SERVICE_PORT} \
                 dnat {family} to {pod}\n"
            );
        }
    }
    rules += "}\n\
        chain prerouting { type nat hook prerouting priority -100; jump services; }\n\
        chain output { type nat hook output priority -100; jump services; }\n}\n";
    let file = stage.lab.dir.join("kube-proxy.nft");
    std::fs::write(&file, rules).unwrap();
    let done = std::process::Command::new("nft").arg("-f").arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
