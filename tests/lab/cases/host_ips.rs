// SPDX-License-Identifier: Apache-2.0
//! hostPorts with a hostIP and without, at addresses of the node old and new.

use std::net::SocketAddr;

use serde_json::json;

use super::stage::{SHARED, ip};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;
use crate::lab::pod::PORT;

/// On every address of the node, and on one.
const ANY: u16 = 8880;
const ONE: u16 = 8881;

#[test]
fn host_ports_answer_where_they_are_bound_and_nowhere_else() {
    let stage = &*SHARED;
    let second = [ip("203.0.113.9"), ip("2001:db8:71::9")];
    let node = &stage.lab.node(1).place.netns;
    for (address, via) in second.into_iter().zip(["192.168.50.1", "fd50::1"]) {
        stage.lab.outside.netns.ip(&format!("route add {address} via {via}"));
        let flag = if address.is_ipv6() { "/128 dev eth0 nodad" } else { "/32 dev eth0" };
        node.ip(&format!("addr add {address}{flag}"));
    }
    let mut ports = Vec::new();
    for protocol in ["TCP", "UDP"] {
        let port = |host| json!({ "containerPort": PORT, "hostPort": host, "protocol": protocol });
        ports.push(port(ANY));
        for v6 in [false, true] {
            let mut one = port(ONE);
            one["hostIP"] = json!(node_ip(1, v6));
            ports.push(one);
        }
    }
    let ips: Vec<_> = stage.web.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "web", "namespace": "lab" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "web", "ports": ports }] },
        "status": { "phase": "Running", "podIP": stage.web.ips[0], "podIPs": ips },
    });
    stage.lab.publish("host-ips", &[pod]).unwrap();

    let mut failures = Vec::new();
    for v6 in [false, true] {
        let (own, added) = (node_ip(1, v6), second[usize::from(v6)]);
        let from = |outcome: &Outcome| outcome.is_from("web");
        for port in [ANY, ONE] {
            stage.ask_until(&stage.lab.outside, "tcp", SocketAddr::new(own, port), from);
        }
        let everyone = [&stage.lab.outside, &stage.clients[0].place, &stage.clients[1].place];
        for place in everyone.into_iter().chain([&stage.lab.node(2).place]) {
            let is_outside = std::ptr::eq(place, &stage.lab.outside);
            for protocol in ["tcp", "udp", "udp-unconnected"] {
                let mut ask = |ip, port, answers: bool| {
                    let to = SocketAddr::new(ip, port);
                    let outcome = stage.ask(place, protocol, to);
                    if from(&outcome) != answers {
                        failures.push(format!("{protocol} to {to}: {outcome:?}"));
                    }
                };
                ask(own, ANY, true);
                ask(own, ONE, true);
                // Nobody else knows the way to the address that came later.
                if is_outside {
                    ask(added, ANY, true);
                    ask(added, ONE, false);
                }
                ask(node_ip(2, v6), ANY, false);
            }
        }
    }
    std::fs::remove_file(stage.lab.manifests().join("host-ips.yaml")).unwrap();
    for address in second {
        let length = if address.is_ipv6() { 128 } else { 32 };
        node.ip(&format!("addr del {address}/{length} dev eth0"));
        stage.lab.outside.netns.ip(&format!("route del {address}"));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
