// SPDX-License-Identifier: Apache-2.0
//! Pods without services: to each other, from the host, and with a false source.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use culvert::abi::Outcome as Verdict;
use culvert::datapath::Maps;
use serde_json::json;

use super::stage::{SHARED, Stage, eventually, ip};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;
use crate::lab::pod::PORT;
use crate::support::interrupt::uninterrupted;

#[test]
fn pods_reach_pods_of_their_own_and_of_other_nodes() {
    let stage = &*SHARED;
    let mut failures = Vec::new();
    for (from, client) in stage.clients.iter().enumerate() {
        for server in [&stage.web, &stage.far] {
            for v6 in [false, true] {
                for protocol in ["tcp", "udp", "udp-unconnected"] {
                    let to = SocketAddr::new(server.ip(v6).unwrap(), PORT);
                    let outcome = stage.ask(&client.place, protocol, to);
                    let peer = client.ip(v6).unwrap();
                    let right = matches!(&outcome, Outcome::Answer { name, peer: saw, .. }
                        if *name == server.name && saw.ip() == peer);
                    if !right {
                        failures.push(format!("{protocol} {to} from n{}: {outcome:?}", from + 1));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn an_address_of_the_node_that_no_pod_has_is_unreachable_at_once() {
    let stage = &*SHARED;
    for to in ["10.1.1.250", "fd00:10:1::fafa"] {
        let to = SocketAddr::new(ip(to), PORT);
        for place in [&stage.clients[0].place, &stage.clients[1].place] {
            let outcome = stage.ask(place, "tcp", to);
            assert!(outcome.is_refusal(), "{to}: {outcome:?}");
        }
    }
}

#[test]
fn hosts_reach_pods_and_pods_reach_hosts() {
    let stage = &*SHARED;
    let mut failures = Vec::new();
    for v6 in [false, true] {
        for node in [1, 2] {
            let to = SocketAddr::new(stage.web.ip(v6).unwrap(), PORT);
            let outcome = stage.ask(&stage.lab.node(node).place, "tcp", to);
            if !outcome.is_from("web") {
                failures.push(format!("{to} from node n{node}: {outcome:?}"));
            }
            // Nobody listens there: it is the host's own stack that refuses.
            let host = SocketAddr::new(node_ip(node as u8, v6), 9);
            let outcome = stage.ask(&stage.clients[0].place, "tcp", host);
            if !outcome.is_refusal() {
                failures.push(format!("{host} from a pod: {outcome:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_packet_with_a_false_source_is_dropped_and_counted() {
    let stage = &*SHARED;
    let liar = stage.lab.node(1).add_pod("liar").unwrap();
    let maps = Maps::open_pinned(&stage.bpf_root(1)).unwrap();
    for (false_ip, length) in [("10.1.1.200", 32), ("fd00:10:1::200", 128)] {
        let nodad = if length == 128 { " nodad" } else { "" };
        liar.place.netns.ip(&format!("addr add {false_ip}/{length} dev eth0{nodad}"));
        let socket = liar.place.netns.run(|| UdpSocket::bind((ip(false_ip), 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let before = spoofed(&maps);
        let to = SocketAddr::new(stage.web.ip(length == 128).unwrap(), PORT);
        for _ in 0..3 {
            socket.send_to(b"lie", to).unwrap();
        }
        assert!(uninterrupted(|| socket.recv(&mut [0; 64])).is_err(), "{false_ip} was answered");
        assert_eq!(spoofed(&maps) - before, 3, "{false_ip}");
    }
    liar.delete(stage.lab.node(1)).unwrap();
}

fn spoofed(maps: &Maps) -> u64 {
    let counters = maps.counters().unwrap();
    let of_spoofed = counters.iter().filter(|(outcome, ..)| *outcome == Verdict::DropSpoofed);
    of_spoofed.map(|(.., counter)| counter.packets).sum()
}

#[test]
fn a_pod_can_be_deleted_while_the_agent_is_away_and_no_address_is_given_twice() {
    let mut stage = Stage::raise(1, "");
    let gone = stage.lab.node(1).add_pod("gone").unwrap();
    let (device, gone_ips) = (gone.host_device().to_owned(), gone.ips.clone());
    stop_agent(&mut stage);
    gone.delete(stage.lab.node(1)).unwrap();
    let netns = &stage.lab.node(1).place.netns;
    assert!(netns.run(|| nix::net::if_::if_nametoindex(device.as_str())).is_err());

    stage.lab.nodes[0].start_agent().unwrap();
    stage.lab.nodes[0].wait_ready().unwrap();
    let maps = Maps::open_pinned(&stage.bpf_root(1)).unwrap();
    let known = || {
        let entries = maps.endpoints.entries().unwrap();
        entries.into_iter().map(|(addr, _)| addr.ip()).collect::<Vec<_>>()
    };
    eventually("the deleted pod leaves `endpoints`", || {
        gone_ips.iter().all(|ip| !known().contains(ip))
    });
    let held: Vec<_> = [&stage.web, &stage.far, &stage.clients[0]]
        .iter()
        .flat_map(|pod| pod.ips.clone())
        .collect();
    assert!(held.iter().all(|ip| known().contains(ip)), "those that stayed are still there");
    let fresh = stage.lab.node(1).add_pod("fresh").unwrap();
    assert!(fresh.ips.iter().all(|ip| !held.contains(ip)), "{:?}", fresh.ips);
    fresh.cni(stage.lab.node(1), "CHECK", Some(json!({ "prevResult": fresh.result }))).unwrap();
}

fn stop_agent(stage: &mut Stage) {
    let mut agent = stage.lab.nodes[0].agent.take().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
}
