// SPDX-License-Identifier: Apache-2.0
//! An agent of a version whose maps look different.

use std::net::SocketAddr;

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapHandle, MapType};

use super::lifecycle::refused;
use super::stage::Stage;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};

/// What earlier versions might have had: a key as today's, and a value of half the size.
const KEY: u32 = 24;
const VALUE: u32 = 16;

#[test]
fn maps_of_another_layout_are_named_and_what_forwards_goes_on_until_they_are_cleaned_up() {
    let mut stage = Stage::raise(2, "");
    let service = Service {
        name: "upgraded",
        kind: "NodePort",
        number: 61,
        node_port: Some(30061),
        ..Service::default()
    };
    stage.serve(&service, &[&stage.far]);
    let mut talks = Vec::new();
    for v6 in [false, true] {
        let cluster = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
        let node_port = SocketAddr::new(node_ip(1, v6), 30061);
        for protocol in ["tcp", "tcp-new", "udp"] {
            talks.push(stage.talk(&stage.clients[0].place, protocol, cluster));
            talks.push(stage.talk(&stage.lab.outside, protocol, node_port));
        }
    }

    let node = &mut stage.lab.nodes[0];
    let mut agent = node.agent.take().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    let pins = || -> Vec<_> {
        let maps = std::fs::read_dir(stage.bpf_root(1).join("maps")).unwrap();
        let mut names: Vec<_> = maps.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = pins();
    // The programs keep the real map; only what the next agent finds is of another layout.
    let pin = stage.bpf_root(1).join("maps/services");
    std::fs::remove_file(&pin).unwrap();
    let options = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as u64,
        ..bpf_map_create_opts::default()
    };
    let mut old =
        MapHandle::create(MapType::Hash, Some("services"), KEY, VALUE, 64, &options).unwrap();
    old.pin(&pin).unwrap();

    for _ in 0..2 {
        let said = refused(stage.lab.node(1));
        let named = format!("{}", pin.display());
        let wanted = format!("{KEY} B -> {} B", size_of::<culvert::abi::Service>());
        for word in [&named, "24 B -> 16 B", &wanted, "culvert cleanup"] {
            assert!(said.contains(word), "no `{word}` in: {said}");
        }
    }
    assert_eq!(pins(), before, "nothing is left half moved");
    let flaws: Vec<_> = talks.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");

    let node = &mut stage.lab.nodes[0];
    node.culvert(&["cleanup"]).unwrap();
    node.start_agent().unwrap();
    node.wait_ready().unwrap();
    for v6 in [false, true] {
        let node_port = SocketAddr::new(node_ip(1, v6), 30061);
        stage.ask_until(&stage.lab.outside, "tcp", node_port, |outcome| outcome.is_from("far"));
    }
}
