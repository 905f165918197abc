// SPDX-License-Identifier: Apache-2.0
//! The driver hook on several devices: each is taken or refused by itself, comes and goes by itself.

use std::process::Command;
use std::time::Instant;

use culvert::abi::Hook;
use culvert::agent::acceleration::Acceleration;
use culvert::config::Acceleration as Wanted;
use culvert::datapath::netlink::View;
use culvert::datapath::{Datapath, XdpMode, probe};

use super::wire::mac;
use super::xdp_attach::Node;
use crate::support::pins::PinRoot;

const NO_XDP: &str = "no XDP on `br0`: the driver has no XDP";
const NO_QUEUES: &str = "no XDP on `eth1`: the driver lacks queues or memory for it";

/// Beside `eth0`: a bridge, which has no driver hook, and a device with fewer queues than its driver
/// wants for one.
fn with_refusing_devices() -> Node {
    let node = Node::new();
    node.ns.ip("link add br0 up type bridge");
    // Not left to how many processors this machine has.
    let peer = format!("peer name eth1 numtxqueues 2 netns {}", node.peer.path().display());
    node.ns.ip(&format!("link add eth1 up numrxqueues 1 type veth {peer}"));
    node.peer.run(|| {
        let done = Command::new("ethtool").args(["-L", "eth1", "tx", "2"]).status().unwrap();
        assert!(done.success(), "{done}");
    });
    node.peer.ip("link set eth1 up");
    node
}

/// As far as the agent comes, from `at` on, once traffic was looked at.
fn settle(
    node: &Node,
    acceleration: &mut Acceleration,
    datapath: &Datapath,
    view: &View,
    at: Instant,
) {
    node.step(acceleration, datapath, view, at);
    let sampled = acceleration.due().expect("traffic is looked at first");
    node.step(acceleration, datapath, view, sampled);
}

/// The devices that the programs may send out of.
fn written(datapath: &Datapath) -> Vec<(u32, [u8; 6])> {
    let entries = datapath.maps().xdp_devices.entries().unwrap();
    entries.into_iter().map(|(ifindex, device)| (ifindex, device.mac)).collect()
}

/// Frames that the driver hook has seen.
fn seen(datapath: &Datapath) -> u64 {
    let counters = datapath.maps().counters().unwrap();
    let ours = counters.iter().filter(|(_, hook, _)| *hook == Hook::Xdp);
    ours.map(|(.., counter)| counter.packets).sum()
}

fn starts(text: &str, with: &str) {
    assert!(text.starts_with(with), "{text}");
}

#[test]
fn a_driver_that_refuses_leaves_its_device_alone_to_tc() {
    for wanted in [Wanted::BestEffort, Wanted::Native] {
        let node = with_refusing_devices();
        let (datapath, view) = (node.datapath(), node.view_of(&["eth0", "br0", "eth1"]));
        let mut acceleration = Acceleration::new(wanted);
        settle(&node, &mut acceleration, &datapath, &view, Instant::now());

        assert_eq!(acceleration.of_device("eth0"), ("native", "being watched"));
        for (device, reason) in [("br0", NO_XDP), ("eth1", NO_QUEUES)] {
            let (word, why) = acceleration.of_device(device);
            assert_eq!((word, node.link_on(device)), ("", None), "{device}");
            starts(why, reason);
        }
        let missing: Vec<_> = acceleration.missing().collect();
        let feature = acceleration.feature();
        if wanted == Wanted::Native {
            let [(first, no_xdp), (second, no_queues)] = missing[..] else { panic!("{missing:?}") };
            assert_eq!([first, second], ["br0", "eth1"]);
            starts(no_xdp, NO_XDP);
            starts(no_queues, NO_QUEUES);
            assert_eq!(feature.effective, "Partial");
        } else {
            assert!(missing.is_empty(), "tc will do: {missing:?}");
            assert_eq!(feature.effective, "Best-Effort");
        }
        starts(&feature.reason, &format!("br0 in tc: {NO_XDP}"));
        assert!(feature.reason.contains(&format!("eth1 in tc: {NO_QUEUES}")), "{}", feature.reason);
        // Nothing may be sent out of a driver that did not take the program.
        assert_eq!(written(&datapath), [(node.index_of("eth0"), mac(&node.ns, "eth0"))]);

        // The others are not drawn into it, and a refusal is final.
        node.receive();
        assert!(seen(&datapath) > 0);
        let watched = acceleration.due().unwrap();
        node.step(&mut acceleration, &datapath, &view, watched);
        assert_eq!(acceleration.of_device("eth0"), ("native", ""));
        assert_eq!(acceleration.due(), None);
    }
}

#[test]
fn another_mtu_is_a_reason_to_ask_the_driver_again() {
    let node = Node::new();
    let stranger = PinRoot::new();
    let others = Datapath::open(stranger.options()).unwrap();
    node.attach(&others, XdpMode::Native).unwrap();
    let (datapath, mut view) = (node.datapath(), node.view_of(&["eth0"]));
    let mut acceleration = Acceleration::new(Wanted::Native);
    settle(&node, &mut acceleration, &datapath, &view, Instant::now());
    let refused = "no XDP on `eth0`: another XDP program is attached";
    starts(acceleration.of_device("eth0").1, refused);

    others.detach_all_xdp().unwrap();
    node.step(&mut acceleration, &datapath, &view, Instant::now());
    assert_eq!((acceleration.due(), node.link()), (None, None));

    node.ns.ip("link set eth0 mtu 1400");
    view.links.values_mut().for_each(|link| link.mtu = 1400);
    settle(&node, &mut acceleration, &datapath, &view, Instant::now());
    assert_eq!(acceleration.of_device("eth0"), ("native", "being watched"));
    assert!(node.link().is_some());
}

/// Where frames cannot have several buffers a driver refuses, and the status says why.
#[test]
fn a_large_mtu_is_served_or_refused_in_words() {
    let node = Node::new();
    let mtu = |mtu: u32, view: &mut View| {
        for ns in [&node.ns, &node.peer] {
            ns.ip(&format!("link set eth0 mtu {mtu}"));
        }
        view.links.values_mut().for_each(|link| link.mtu = mtu);
    };
    let (datapath, mut view) = (node.datapath(), node.view_of(&["eth0"]));
    mtu(9000, &mut view);
    let mut acceleration = Acceleration::new(Wanted::Native);
    settle(&node, &mut acceleration, &datapath, &view, Instant::now());
    let (word, why) = acceleration.of_device("eth0");
    if probe::run(node.root.path()).has("xdp frags") {
        assert_eq!((word, why), ("native", "being watched"));
        let before = seen(&datapath);
        node.receive_bytes(8900);
        assert!(seen(&datapath) > before, "the driver hook did not see it");
        return;
    }
    assert_eq!((word, node.link()), ("", None));
    starts(why, "no XDP on `eth0`: the MTU is too large for an XDP program on this driver");
    assert_eq!(acceleration.feature().effective, "Disabled");
    node.receive_bytes(8900);

    mtu(1500, &mut view);
    settle(&node, &mut acceleration, &datapath, &view, Instant::now());
    assert_eq!(acceleration.of_device("eth0"), ("native", "being watched"));
    node.receive();
}

#[test]
fn a_device_that_goes_and_comes_again_is_attached_again() {
    let node = Node::new();
    node.ns.veth("eth1", "10.9.1.2/24", &node.peer, "eth1", "10.9.1.1/24");
    let (datapath, devices) = (node.datapath(), ["eth0", "eth1"]);
    let mut acceleration = Acceleration::new(Wanted::Native);
    // No trial comes to its end here: time stands still.
    let start = Instant::now();
    settle(&node, &mut acceleration, &datapath, &node.view_of(&devices), start);
    let entry = |device| (node.index_of(device), mac(&node.ns, device));
    let mut both = vec![entry("eth0"), entry("eth1")];
    both.sort_unstable();
    let mut found = written(&datapath);
    found.sort_unstable();
    assert_eq!(found, both);
    let (old, [first, second]) = (node.index_of("eth0"), devices.map(|d| node.link_on(d)));

    // Seen without it in between, or only when the new one is there already.
    for seen_without in [true, false] {
        let before = node.index_of("eth0");
        node.ns.ip("link del eth0");
        if seen_without {
            let view = node.view_of(&["eth1"]);
            node.step(&mut acceleration, &datapath, &view, start);
            assert_eq!(node.link(), None, "a pin of a device that is gone");
            assert_eq!(written(&datapath), [entry("eth1")]);
            assert_eq!(acceleration.feature().effective, "Native", "of what there is");
        }
        node.cable();
        assert_ne!(node.index_of("eth0"), before);
        let view = node.view_of(&devices);
        node.step(&mut acceleration, &datapath, &view, start);
        let missing: Vec<_> = acceleration.missing().collect();
        assert_eq!(missing, [("eth0", "not attached yet")], "the old one's state is none of its");
        assert_eq!(written(&datapath), [entry("eth1")]);

        let sampled = acceleration.due().unwrap();
        node.step(&mut acceleration, &datapath, &view, sampled);
        assert!(datapath.has_xdp(node.index_of("eth0"), "eth0"));
        assert_eq!(acceleration.of_device("eth0"), ("native", "being watched"));
        let mut found = written(&datapath);
        found.sort_unstable_by_key(|(ifindex, _)| *ifindex != node.index_of("eth1"));
        assert_eq!(found, [entry("eth1"), entry("eth0")]);
        let before = seen(&datapath);
        node.receive();
        assert!(seen(&datapath) > before, "the new device's frames are not looked at");
    }
    assert_ne!((node.index_of("eth0"), node.link()), (old, first));
    assert_eq!(node.link_on("eth1"), second, "its neighbour was touched");
}
