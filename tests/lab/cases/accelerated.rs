// SPDX-License-Identifier: Apache-2.0
//! External devices that come and go under a live agent, with and without a driver hook.

use std::net::SocketAddr;

use culvert::abi::{Hook, Outcome};
use culvert::datapath::Maps;
use nix::net::if_::if_nametoindex;
use serde_json::{Value, json};

use super::modes::{MODES, Mode, Scene};
use super::stage::{eventually, ip, status};
use crate::client;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::Service;
use crate::lab::place::Place;

const BEST_EFFORT: Mode = Mode {
    name: "SNAT in XDP where it can be",
    config: "  mode: snat\n  acceleration: best-effort\n",
    effective: ["SNAT", "IP Option/Extension", "Random"],
    acceleration: "native",
    counts: (Outcome::Forwarded, Hook::Xdp),
};

const NODE_PORT: u16 = 30049;

/// What the first node says of a device.
fn device(scene: &Scene, name: &str) -> Option<Value> {
    let shown = status(scene.stage.lab.node(1));
    let mut devices = shown["devices"].as_array().unwrap().iter();
    devices.find(|device| device["name"] == name).cloned()
}

/// Indexes of the devices that the first node's driver hooks may send out of.
fn accelerated(scene: &Scene) -> Vec<u32> {
    let maps = Maps::open_pinned(&scene.stage.bpf_root(1)).unwrap();
    let entries = maps.xdp_devices.entries().unwrap();
    entries.into_iter().map(|(ifindex, _)| ifindex).collect()
}

/// Packets that the first node has sent on from the driver hook and from tc.
fn forwarded(scene: &Scene) -> [u64; 2] {
    let counters = Maps::open_pinned(&scene.stage.bpf_root(1)).unwrap().counters().unwrap();
    [Hook::Xdp, Hook::FromNetdev].map(|hook| {
        let ours = counters.iter().filter(|(o, on, _)| (*o, *on) == (Outcome::Forwarded, hook));
        ours.map(|(.., counter)| counter.packets).sum()
    })
}

/// Asked at these addresses of the first node, the pod on the second one answers. Returns how many packets
/// either hook of the first node has sent on for it.
fn answers(scene: &Scene, client: &Place, addresses: [&str; 2]) -> [u64; 2] {
    let before = forwarded(scene);
    for to in addresses.map(|address| SocketAddr::new(ip(address), NODE_PORT)) {
        for protocol in ["tcp", "udp"] {
            scene.stage.ask_until(client, protocol, to, |outcome| outcome.is_from("far"));
        }
    }
    let after = forwarded(scene);
    [0, 1].map(|hook| after[hook] - before[hook])
}

fn service() -> Service {
    Service {
        name: "devices",
        kind: "NodePort",
        number: 49,
        node_port: Some(NODE_PORT),
        ..Service::default()
    }
}

#[test]
fn devices_come_and_go_and_each_is_served_as_well_as_its_driver_can() {
    let scene = Scene::raise(&BEST_EFFORT, "devices: [eth0, second]\n");
    let lab = &scene.stage.lab;
    let node = &lab.node(1).place.netns;
    let index = |name: &str| node.run(|| if_nametoindex(name).unwrap());
    scene.stage.serve(&service(), &[&scene.stage.far]);
    let own = [false, true].map(|v6| node_ip(1, v6).to_string());
    let own = [own[0].as_str(), own[1].as_str()];
    let [in_driver, _] = answers(&scene, &lab.outside, own);
    assert!(in_driver > 0);

    // A bridge has no driver hook: what comes in there is tc's.
    let beyond = Place::new(lab.outside.cgroup.with_file_name("beyond")).unwrap();
    node.ip("link add second up type bridge mcast_snooping 0");
    node.veth("port", "", &beyond.netns, "eth0", "192.168.60.2/24");
    node.ip("link set port master second");
    node.ip("addr add 192.168.60.1/24 dev second");
    node.ip("addr add fd60::1/64 dev second nodad");
    beyond.netns.ip("addr add fd60::2/64 dev eth0 nodad");
    let mut said = Value::Null;
    eventually("the bridge is left to tc", || {
        said = device(&scene, "second").unwrap_or_default();
        said["accelerationProblem"]
            .as_str()
            .is_some_and(|why| why.contains("the driver has no XDP"))
    });
    assert_eq!((&said["acceleration"], said["attached"] == ""), (&Value::Null, false), "{said}");
    let feature = &status(lab.node(1))["features"]["xdpAcceleration"];
    assert_eq!(feature["effective"], "Best-Effort");
    let reason = feature["reason"].as_str().unwrap();
    assert!(reason.starts_with("second in tc: "), "{reason}");
    let [_, in_tc] = answers(&scene, &beyond, ["192.168.60.1", "fd60::1"]);
    assert!(in_tc > 0);
    assert_eq!(accelerated(&scene), [index("eth0")]);

    let before = index("eth0");
    node.ip("link del eth0");
    eventually("the device is gone", || device(&scene, "eth0").is_none());
    assert!(accelerated(&scene).is_empty());
    scene.plug(1);
    assert_ne!(index("eth0"), before);
    // Its address is at home at another hardware address now, which it does not tell.
    for ns in [&lab.outside.netns, &lab.node(2).place.netns, &lab.fabric] {
        ns.ip("neigh flush all");
    }
    eventually("the new device is served by its driver", || {
        device(&scene, "eth0").is_some_and(|device| device["acceleration"] == "native")
    });
    assert_eq!(accelerated(&scene), [index("eth0")]);
    assert_eq!(device(&scene, "eth0").unwrap()["ifindex"], json!(index("eth0")));
    let [in_driver, _] = answers(&scene, &lab.outside, own);
    assert!(in_driver > 0, "the new device's frames go up");
    answers(&scene, &beyond, ["192.168.60.1", "fd60::1"]);
}

#[test]
fn hybrid_in_the_driver_hides_the_client_of_datagrams_alone() {
    let mode = MODES.iter().find(|mode| mode.name == "hybrid and Maglev in XDP").unwrap();
    let scene = Scene::raise(mode, "");
    let stage = &scene.stage;
    stage.serve(&service(), &[&stage.far]);
    for v6 in [false, true] {
        let to = SocketAddr::new(node_ip(1, v6), NODE_PORT);
        for (protocol, seen) in [("tcp", node_ip(100, v6)), ("udp", node_ip(1, v6))] {
            let [before, _] = forwarded(&scene);
            // The first packet of all goes up for its neighbour's address, and the connection before may
            // have left some behind.
            eventually("they are sent on by the driver hook", || {
                let outcome = stage.ask(&stage.lab.outside, protocol, to);
                let client::Outcome::Answer { name, peer, .. } = &outcome else {
                    panic!("{protocol} to {to}: {outcome:?}");
                };
                assert_eq!((name.as_str(), peer.ip()), ("far", seen), "{protocol} to {to}");
                forwarded(&scene)[0] > before + 8
            });
        }
    }
}
