// SPDX-License-Identifier: Apache-2.0
//! The driver hook on devices: refused, replaced, watched and rolled back.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use culvert::abi::XdpVlanKey;
use culvert::agent::acceleration::{self, Acceleration};
use culvert::config::Acceleration as Wanted;
use culvert::datapath::netlink::{Link, Uplink, View, Vlan};
use culvert::datapath::{Datapath, XdpMode, attach};
use nix::net::if_::if_nametoindex;

use super::wire::mac;
use crate::support::interrupt::uninterrupted;
use crate::support::netns::NetNs;
use crate::support::pins::PinRoot;

/// A node with an uplink, and the other end of its cable.
pub(super) struct Node {
    pub ns: NetNs,
    pub peer: NetNs,
    pub root: PinRoot,
}

impl Node {
    pub fn new() -> Self {
        let node = Self { ns: NetNs::new(), peer: NetNs::new(), root: PinRoot::new() };
        node.cable();
        node
    }

    pub fn cable(&self) {
        self.ns.veth("eth0", "10.9.0.2/24", &self.peer, "eth0", "10.9.0.1/24");
    }

    pub fn datapath(&self) -> Datapath {
        Datapath::open(self.root.options()).unwrap()
    }

    fn ifindex(&self) -> u32 {
        self.index_of("eth0")
    }

    pub fn index_of(&self, device: &str) -> u32 {
        self.ns.run(|| if_nametoindex(device).unwrap())
    }

    pub fn attach(&self, datapath: &Datapath, mode: XdpMode) -> Result<(), attach::Error> {
        let ifindex = self.ifindex();
        self.ns.run(|| datapath.attach_xdp(ifindex, "eth0", mode))
    }

    fn view(&self, up: bool) -> View {
        let mut view = self.view_of(&["eth0"]);
        view.links.values_mut().for_each(|link| link.up = up);
        view
    }

    pub fn view_of(&self, devices: &[&str]) -> View {
        view_of(&self.ns, devices)
    }

    pub fn step(
        &self,
        acceleration: &mut Acceleration,
        datapath: &Datapath,
        view: &View,
        at: Instant,
    ) {
        self.ns.run(|| acceleration.step(view, datapath, at).unwrap());
    }

    pub fn receive(&self) {
        self.receive_bytes(8);
    }

    /// A datagram from the other end.
    pub fn receive_bytes(&self, length: usize) {
        let server = self.ns.run(|| UdpSocket::bind("10.9.0.2:0")).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let client = self.peer.run(|| UdpSocket::bind("10.9.0.1:0")).unwrap();
        client.send_to(&vec![7; length], server.local_addr().unwrap()).unwrap();
        assert_eq!(uninterrupted(|| server.recv(&mut [0; 9000])).expect("it was lost"), length);
    }

    fn ethtool(&self, settings: &str) {
        let done = self.ns.run(|| {
            let mut ethtool = std::process::Command::new("ethtool");
            ethtool.args(["-K", "eth0"]).args(settings.split(' ')).status().unwrap()
        });
        assert!(done.success());
    }

    pub fn link(&self) -> Option<u32> {
        self.link_on("eth0")
    }

    pub fn link_on(&self, device: &str) -> Option<u32> {
        let path = self.root.path().join(format!("links/{device}_xdp_entry"));
        path.exists().then(|| libbpf_rs::Link::open(path).unwrap().info().unwrap().id)
    }
}

/// What the agent would be told of the network, with these external devices.
pub(super) fn view_of(ns: &NetNs, devices: &[&str]) -> View {
    let mut view = View::default();
    for &name in devices {
        let ifindex = ns.run(|| if_nametoindex(name).unwrap());
        let (name, mac) = (name.to_owned(), mac(ns, name).to_vec());
        let uplink = Uplink { name: name.clone(), mtu: 1500, snat_v4: None, snat_v6: None };
        view.uplinks.insert(ifindex, uplink);
        let link = Link { name, mtu: 1500, up: true, loopback: false, mac, vlan: None };
        view.links.insert(ifindex, link);
    }
    view
}

#[test]
fn a_restart_swaps_the_program_under_the_same_link() {
    let node = Node::new();
    node.attach(&node.datapath(), XdpMode::Native).unwrap();
    let first = node.link().unwrap();
    let second = node.datapath();
    node.attach(&second, XdpMode::Native).unwrap();
    assert_eq!(node.link(), Some(first));
    // The new program is the one that counts.
    node.receive();
    let counters = second.maps().counters().unwrap();
    assert!(counters.iter().any(|(_, hook, _)| *hook == culvert::abi::Hook::Xdp));

    node.ns.ip("link del eth0");
    node.cable();
    assert!(!second.has_xdp(node.ifindex(), "eth0"));
    node.attach(&second, XdpMode::Native).unwrap();
    assert_ne!(node.link(), Some(first));
    node.receive();
}

#[test]
fn another_mode_replaces_the_link() {
    let node = Node::new();
    let datapath = node.datapath();
    for mode in [XdpMode::Generic, XdpMode::Native, XdpMode::Generic] {
        node.attach(&datapath, mode).unwrap();
        let shown = node.ns.run(|| {
            let mut ip = std::process::Command::new("ip");
            ip.args(["-d", "link", "show", "eth0"]).output().unwrap().stdout
        });
        let shown = String::from_utf8(shown).unwrap();
        let generic = shown.contains("xdpgeneric");
        assert!(shown.contains("prog/xdp"), "{shown}");
        assert_eq!(generic, mode == XdpMode::Generic, "{shown}");
    }
}

#[test]
fn a_refusal_names_the_device_and_the_reason() {
    let node = Node::new();
    let datapath = node.datapath();
    let error = node.ns.run(|| datapath.attach_xdp(1, "lo", XdpMode::Native).unwrap_err());
    assert_eq!(error.to_string(), "no XDP on `lo`: the driver has no XDP");

    let other = PinRoot::new();
    let stranger = Datapath::open(other.options()).unwrap();
    node.attach(&stranger, XdpMode::Native).unwrap();
    let error = node.attach(&datapath, XdpMode::Native).unwrap_err();
    assert_eq!(error.to_string(), "no XDP on `eth0`: another XDP program is attached");
}

#[test]
fn a_device_is_sampled_watched_and_kept() {
    let node = Node::new();
    let (datapath, view, start) = (node.datapath(), node.view(true), Instant::now());
    let mut acceleration = Acceleration::new(Wanted::Native);
    node.step(&mut acceleration, &datapath, &view, start);
    assert_eq!(acceleration.missing().count(), 1, "not ready before it is attached");
    assert_eq!(node.link(), None);
    node.receive();

    let sampled = acceleration.due().unwrap();
    node.step(&mut acceleration, &datapath, &view, sampled);
    assert!(node.link().is_some());
    assert_eq!(acceleration.missing().count(), 0);
    assert_eq!(acceleration.of_device("eth0"), ("native", "being watched"));
    let devices = datapath.maps().xdp_devices.entries().unwrap();
    assert_eq!(devices[0].1.mac, mac(&node.ns, "eth0"));
    node.receive();

    let watched = acceleration.due().unwrap();
    node.step(&mut acceleration, &datapath, &view, watched);
    assert_eq!(acceleration.of_device("eth0"), ("native", ""));
    assert_eq!(acceleration.due(), None);

    // A restarted agent takes the link over at once.
    let link = node.link();
    let (datapath, mut acceleration) = (node.datapath(), Acceleration::new(Wanted::BestEffort));
    node.ns.run(|| acceleration.start(&datapath).unwrap());
    node.step(&mut acceleration, &datapath, &view, start);
    assert_eq!((acceleration.of_device("eth0"), node.link()), (("native", ""), link));

    // Without the device there is nothing to send out of.
    node.step(&mut acceleration, &datapath, &View::default(), start);
    assert!(datapath.maps().xdp_devices.entries().unwrap().is_empty());

    node.ns.run(|| Acceleration::new(Wanted::Disabled).start(&datapath).unwrap());
    assert_eq!(node.link(), None);
}

#[test]
fn a_vlan_is_served_by_the_driver_of_the_device_below() {
    let node = Node::new();
    let (datapath, start) = (node.datapath(), Instant::now());
    let mut view = node.view(true);
    // This kernel has no VLAN devices; what the agent would be told of one will do.
    let eth0 = node.ifindex();
    let (vlan, tag) = (eth0 + 1000, 0x8100_0064);
    let uplink = view.uplinks.remove(&eth0).unwrap();
    view.uplinks.insert(vlan, Uplink { name: "eth0.100".into(), ..uplink });
    let link = Link {
        name: "eth0.100".into(),
        vlan: Some(Vlan { parent: eth0, tag }),
        ..view.links[&eth0].clone()
    };
    view.links.insert(vlan, link);

    // The driver of a veth pair would hand the tag over beside the frame.
    let mut acceleration = Acceleration::new(Wanted::Native);
    node.step(&mut acceleration, &datapath, &view, start);
    let (word, why) = acceleration.of_device("eth0.100");
    assert_eq!((word, node.link()), ("", None));
    assert!(why.contains("`rxvlan off`"), "{why}");
    assert_eq!(acceleration.due(), None);

    node.ethtool("rxvlan off");
    node.step(&mut acceleration, &datapath, &view, start);
    let sampled = acceleration.due().unwrap();
    node.step(&mut acceleration, &datapath, &view, sampled);
    assert!(node.link().is_some());
    assert_eq!(acceleration.of_device("eth0.100"), ("native", "being watched"));
    let key = XdpVlanKey { parent: eth0, outer: tag, inner: 0 };
    assert_eq!(datapath.maps().xdp_vlans.entries().unwrap(), [(key, vlan)]);
    // Untagged frames are nobody's here.
    assert!(datapath.maps().xdp_devices.entries().unwrap().is_empty());

    // A restart finds it at work, and does not take it for a leftover.
    let link = node.link();
    let wanted = acceleration::devices(&view);
    node.ns.run(|| datapath.detach_others(&["eth0.100".to_owned()].into(), &wanted).unwrap());
    assert_eq!(node.link(), link);

    node.ethtool("rxvlan on");
    node.step(&mut acceleration, &datapath, &view, start);
    assert_eq!(node.link(), None);
    assert!(datapath.maps().xdp_vlans.entries().unwrap().is_empty());

    // The VLAN goes, and with it whatever the driver below still had.
    node.ethtool("rxvlan off");
    let mut acceleration = Acceleration::new(Wanted::Native);
    node.step(&mut acceleration, &datapath, &view, start);
    let sampled = acceleration.due().unwrap();
    node.step(&mut acceleration, &datapath, &view, sampled);
    assert!(node.link().is_some());
    view.uplinks.clear();
    node.step(&mut acceleration, &datapath, &view, sampled);
    assert_eq!(node.link(), None);
}

#[test]
fn a_device_that_goes_silent_is_rolled_back() {
    for carrier in [true, false] {
        let node = Node::new();
        let (datapath, start) = (node.datapath(), Instant::now());
        let mut acceleration = Acceleration::new(Wanted::BestEffort);
        node.step(&mut acceleration, &datapath, &node.view(true), start);
        node.receive();
        // Nothing, not even neighbour discovery, comes in from here on.
        node.peer.ip("link set eth0 down");
        let sampled = acceleration.due().unwrap();
        node.step(&mut acceleration, &datapath, &node.view(true), sampled);
        assert!(node.link().is_some());

        let silent = node.view(carrier);
        let watched = acceleration.due().unwrap();
        node.step(&mut acceleration, &datapath, &silent, watched);
        let (word, why) = acceleration.of_device("eth0");
        assert_eq!((word, node.link()), ("", None));
        assert!(why.starts_with("rolled back"), "{why}");
        assert_eq!(acceleration.feature().effective, "Disabled");
        assert!(datapath.maps().xdp_devices.entries().unwrap().is_empty());
        // It stays off: a device that flaps must not be tried for ever.
        assert_eq!(acceleration.due(), None);
        node.step(&mut acceleration, &datapath, &node.view(true), watched);
        assert_eq!(node.link(), None);
    }
}
