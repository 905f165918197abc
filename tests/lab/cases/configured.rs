// SPDX-License-Identifier: Apache-2.0
//! That keys of the configuration act, where only a whole system shows it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use serde_json::{Value, json};

use super::stage::{Stage, eventually, ip, status};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};

#[test]
fn devices_addresses_sizes_and_routing_are_as_configured() {
    let stage = Stage::raise(
        1,
        "MTU: 1400\ndevices: [et+]\nipv4NativeRoutingCIDR: 10.2.0.0/16\n\
         nodePort:\n  addresses: [\"fd50::/64\"]\n\
         bpf:\n  hostLegacyRouting: true\n  servicesMax: 1024\n  endpointsMax: 256\n",
    );
    let node = stage.lab.node(1);
    let shown = status(node);
    assert_eq!(shown["devices"][0]["name"], "eth0");
    assert_eq!(shown["devices"].as_array().unwrap().len(), 1);
    assert_eq!(shown["features"]["hostRouting"]["effective"], "Legacy");
    let max = |map: &str| {
        let mut maps = shown["maps"].as_array().unwrap().iter();
        maps.find(|each| each["name"] == map).unwrap()["maxEntries"].clone()
    };
    assert_eq!((max("services"), max("endpoints")), (json!(1024), json!(256)));
    assert_eq!(problems(&shown), ["Node n1"], "10.1.1.0/24 lies outside 10.2.0.0/16");
    let pod = &stage.web.place;
    let link = pod.output(pod.command("ip").args(["link", "show", "eth0"])).unwrap();
    let link = String::from_utf8_lossy(&link.stdout);
    assert!(link.contains("mtu 1400"), "{link}");

    let service = Service {
        name: "np",
        kind: "NodePort",
        number: 80,
        node_port: Some(30090),
        ..Service::default()
    };
    stage.serve(&service, &[&stage.web]);
    let to = |address: &str| SocketAddr::new(ip(address), 30090);
    stage.ask_until(&stage.lab.outside, "tcp", to("fd50::1"), |o| o.is_from("web"));
    assert!(stage.ask(&stage.lab.outside, "tcp", to("192.168.50.1")).is_refusal());
    let list = node.culvert(&["service", "list"]).unwrap();
    assert!(list.contains("[fd50::1]:30090/TCP") && list.contains("0.0.0.0:30090/TCP"), "{list}");
    assert!(!list.contains("192.168.50.1:30090") && !list.contains("[fe80:"), "{list}");
}

#[test]
fn what_is_switched_off_is_served_to_nobody() {
    let stage = Stage::raise(
        1,
        "kubeProxyReplacement: partial\nnodePort:\n  enabled: false\nexternalIPs:\n  enabled: false\n",
    );
    let service = Service {
        name: "off",
        kind: "LoadBalancer",
        number: 81,
        node_port: Some(30091),
        ingress: vec![ip("192.0.2.81")],
        ..Service::default()
    };
    stage.serve(&service, &[&stage.web]);
    let host = &stage.lab.node(1).place;
    let node_port = SocketAddr::new(ip("192.168.50.1"), 30091);
    for from in [host, &stage.lab.outside] {
        assert!(stage.ask(from, "tcp", node_port).is_refusal());
    }
    let balancer = SocketAddr::new(service.ingress[0], 80);
    let answer = stage.ask(&stage.clients[0].place, "tcp", balancer);
    assert!(!answer.is_from("web"), "{answer:?}");
    let list = stage.lab.node(1).culvert(&["service", "list"]).unwrap();
    let kinds: BTreeSet<&str> =
        list.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(kinds, BTreeSet::from(["ClusterIP"]), "{list}");
}

#[test]
fn an_external_ip_that_no_node_has_stays_its_owners_for_clients_inside() {
    let stage = Stage::raise(1, "");
    let (node, outside) = (stage.lab.node(1), &stage.lab.outside);
    let theirs = ["198.51.100.83", "2001:db8:51::83"].map(ip);
    let own = ["203.0.113.83", "2001:db8:71::83"].map(ip);
    let host = |ip: &IpAddr| format!("{ip}/{}", if ip.is_ipv6() { 128 } else { 32 });
    let flag = |ip: &IpAddr| if ip.is_ipv6() { " nodad" } else { "" };
    for (theirs, own) in theirs.iter().zip(&own) {
        let v6 = own.is_ipv6();
        let [here, there] = [1, 100].map(|host| node_ip(host, v6));
        outside.netns.ip(&format!("addr add {} dev lo", host(theirs)));
        node.place.netns.ip(&format!("route add {theirs} via {there}"));
        node.place.netns.ip(&format!("addr add {} dev eth0{}", host(own), flag(own)));
        outside.netns.ip(&format!("route add {own} via {here}"));
        let pods = if v6 { "fd00:10:1::/64" } else { "10.1.1.0/24" };
        outside.netns.ip(&format!("route add {pods} via {here}"));
    }
    let mut command = outside.command(stage.program());
    command.args(["serve", "owner", &SERVICE_PORT.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut owner = outside.spawn(&mut command).unwrap();
    let service = Service {
        name: "external",
        number: 83,
        external_ips: [theirs, own].concat(),
        ..Service::default()
    };
    stage.serve(&service, &[&stage.web]);
    let at = |ip| SocketAddr::new(ip, SERVICE_PORT);
    // Who has an address answers datagrams from another one of its own.
    let protocols = ["tcp", "udp-unconnected"];
    for client in [&stage.clients[0].place, &node.place] {
        for (theirs, own) in theirs.into_iter().zip(own) {
            for protocol in protocols {
                stage.ask_until(client, protocol, at(own), |outcome| outcome.is_from("web"));
                stage.ask_until(client, protocol, at(theirs), |outcome| outcome.is_from("owner"));
            }
        }
    }
    // Who comes from outside is served there: that is what the address is for.
    owner.kill().unwrap();
    owner.wait().unwrap();
    for theirs in &theirs {
        outside.netns.ip(&format!("addr del {} dev lo", host(theirs)));
    }
    for to in theirs.into_iter().chain(own).map(at) {
        for protocol in ["tcp", "udp"] {
            stage.ask_until(outside, protocol, to, |outcome| outcome.is_from("web"));
        }
    }
}

/// Subjects of the agent's own problems.
pub fn problems(status: &Value) -> Vec<String> {
    let problems = status["problems"].as_array().unwrap().iter();
    problems.map(|problem| problem["subject"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_node_that_is_no_neighbour_is_named() {
    let stage = Stage::raise(1, "");
    let far = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": "far-away" },
        "spec": { "podCIDRs": ["10.9.0.0/24"] },
        "status": { "addresses": [{ "type": "InternalIP", "address": "172.31.0.1" }] },
    });
    stage.lab.publish("far", &[far]).unwrap();
    let node = stage.lab.node(1);
    eventually("`status` names the node", || problems(&status(node)) == ["Node far-away"]);
    let text = node.culvert(&["status"]).unwrap();
    assert!(text.contains("`172.31.0.1` is on no link of this node"), "{text}");
}
