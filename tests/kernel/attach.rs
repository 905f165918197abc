// SPDX-License-Identifier: Apache-2.0
//! Programs on devices and cgroups, across restarts.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use culvert::abi::Hook;
use culvert::datapath::{Datapath, Maps, Mechanism, Options, XdpMode, attach, probe};
use libbpf_rs::query::LinkTypeInfo;
use nix::net::if_::if_nametoindex;

use crate::support::interrupt::uninterrupted;
use crate::support::netns::NetNs;
use crate::support::pins::PinRoot;
use crate::support::sockets::udp;

#[test]
fn fifty_restarts_under_traffic_let_no_packet_pass_unseen() {
    restarts_lose_nothing(false);
}

#[test]
fn restarts_with_clsact_let_no_packet_pass_unseen() {
    restarts_lose_nothing(true);
}

fn restarts_lose_nothing(force_clsact: bool) {
    let (root, wire) = (PinRoot::new(), Wire::new());
    let options = Options { force_clsact, ..root.options() };
    let maps = {
        let first = wire.attach(options.clone());
        let tcx = !force_clsact && probe::has_tcx();
        assert_eq!(first.mechanism(), if tcx { Mechanism::Tcx } else { Mechanism::Clsact });
        first.maps().clone()
    };
    let before = (wire.received(), seen(&maps));
    let done = AtomicBool::new(false);
    let pings = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            let mut pings = 0;
            while !done.load(Ordering::Relaxed) {
                wire.ping();
                pings += 1;
            }
            pings
        });
        for _ in 0..50 {
            drop(wire.attach(options.clone()));
        }
        done.store(true, Ordering::Relaxed);
        pinging.join().unwrap()
    });
    assert!(pings >= 50, "{pings}");
    assert_eq!(seen(&maps) - before.1, wire.received() - before.0);
}

#[test]
fn a_link_whose_device_went_is_made_anew() {
    let (root, wire) = (PinRoot::new(), Wire::new());
    let maps = wire.attach(root.options()).maps().clone();
    wire.ping();
    assert!(seen(&maps) > 0);

    wire.node.ip("link del eth0");
    let before = seen(&maps);
    wire.connect();
    wire.ping();
    assert_eq!(seen(&maps), before, "the new device has no program yet");

    drop(wire.attach(root.options()));
    wire.ping();
    assert!(seen(&maps) > before);
}

#[test]
fn a_change_of_mechanism_leaves_one_program_not_two() {
    let (root, wire) = (PinRoot::new(), Wire::new());
    let clsact = Options { force_clsact: true, ..root.options() };
    for options in [clsact.clone(), root.options(), clsact] {
        let datapath = wire.attach(options);
        let before = (wire.received(), seen(datapath.maps()));
        for _ in 0..10 {
            wire.ping();
        }
        assert_eq!(seen(datapath.maps()) - before.1, wire.received() - before.0);
    }
}

#[test]
fn devices_that_are_no_longer_wanted_are_let_go() {
    for force_clsact in [false, true] {
        let (root, wire) = (PinRoot::new(), Wire::new());
        let datapath = wire.attach(Options { force_clsact, ..root.options() });

        wire.node.run(|| {
            datapath.detach_others(&["eth0".to_owned()].into(), &Default::default()).unwrap()
        });
        let before = seen(datapath.maps());
        wire.ping();
        let after = seen(datapath.maps());
        assert!(after > before, "a wanted device was let go");

        wire.node.run(|| {
            datapath.detach_others(&["eth1".to_owned()].into(), &Default::default()).unwrap()
        });
        wire.ping();
        assert_eq!(seen(datapath.maps()), after);
    }
}

#[test]
fn a_device_name_with_a_dot_can_be_pinned() {
    let (root, node) = (PinRoot::new(), NetNs::new());
    node.ip("link add eth0.100 type veth peer name other");
    node.run(|| {
        let datapath = Datapath::open(root.options()).unwrap();
        let ifindex = if_nametoindex("eth0.100").unwrap();
        datapath.attach_pod(ifindex, "eth0.100").unwrap();
        datapath.attach_xdp(ifindex, "eth0.100", XdpMode::Native).unwrap();
        // Filters have no pins; XDP is a link on every kernel.
        let tc = if datapath.mechanism() == Mechanism::Tcx { 2 } else { 0 };
        assert_eq!(links(&root).len(), tc + 1);
        datapath.detach_xdp("eth0.100").unwrap();
        assert_eq!(links(&root).len(), tc);
        datapath.detach(ifindex, "eth0.100").unwrap();
        assert!(links(&root).is_empty());
    });
}

#[test]
fn socket_programs_follow_their_cgroup() {
    let (root, cgroup) = (PinRoot::new(), Cgroup::new());
    let datapath = Datapath::open(root.options()).unwrap();
    datapath.attach_cgroup(cgroup.path()).unwrap();
    let connect4 = root.path().join("links/cgroup:_connect4");
    assert_eq!(cgroup_of(&connect4), cgroup.id());
    let first = link_id(&connect4);

    // A restart swaps the program under the same link.
    let second = Datapath::open(root.options()).unwrap();
    second.attach_cgroup(cgroup.path()).unwrap();
    assert_eq!(link_id(&connect4), first);

    // Another cgroup, or the same path made anew, wants another link.
    let other = Cgroup::new();
    second.attach_cgroup(other.path()).unwrap();
    assert_eq!(cgroup_of(&connect4), other.id());
    other.remake();
    second.attach_cgroup(other.path()).unwrap();
    assert_eq!(cgroup_of(&connect4), other.id());

    second.detach_cgroup().unwrap();
    assert!(links(&root).is_empty());
}

#[test]
fn cleanup_leaves_nothing() {
    for force_clsact in [false, true] {
        let (root, wire, cgroup) = (PinRoot::new(), Wire::new(), Cgroup::new());
        let datapath = wire.attach(Options { force_clsact, ..root.options() });
        datapath.attach_cgroup(cgroup.path()).unwrap();
        let maps = Maps::open_pinned(root.path()).unwrap();
        let filters = datapath.mechanism() == Mechanism::Clsact;
        drop(datapath);

        let removed = wire.node.run(|| attach::cleanup(root.path()).unwrap());
        assert!(removed.links.iter().any(|link| link.ends_with("connect4")), "{removed:?}");
        assert!(removed.maps.iter().any(|map| map == "services"), "{removed:?}");
        assert_eq!(removed.filters, if filters { vec!["eth0"] } else { vec![] });
        assert!(!root.path().exists());
        let before = seen(&maps);
        wire.ping();
        assert_eq!(seen(&maps), before);

        let again = wire.node.run(|| attach::cleanup(root.path()).unwrap());
        assert_eq!(again, attach::Removed::default());
    }
}

#[test]
fn a_missing_device_is_named() {
    let root = PinRoot::new();
    let datapath = Datapath::open(root.options()).unwrap();
    let error = datapath.attach_uplink(i32::MAX as u32, "nope0").unwrap_err();
    assert_eq!(error.to_string(), "cannot attach `from_netdev` to `nope0`");
}

/// A client and a node, with a server on the node that echoes.
struct Wire {
    client: NetNs,
    node: NetNs,
}

impl Wire {
    fn new() -> Self {
        let wire = Self { client: NetNs::new(), node: NetNs::new() };
        // Nothing but the tests' own packets is to be counted.
        for ns in [&wire.client, &wire.node] {
            let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
            ns.run(|| fs::write(path, "1")).unwrap();
        }
        wire.connect();
        wire
    }

    fn connect(&self) {
        self.client.veth("eth0", "10.9.0.1/24", &self.node, "eth0", "10.9.0.2/24");
    }

    /// What an agent does at its start.
    fn attach(&self, options: Options) -> Datapath {
        self.node.run(|| {
            let datapath = Datapath::open(options).unwrap();
            datapath.attach_uplink(if_nametoindex("eth0").unwrap(), "eth0").unwrap();
            datapath
        })
    }

    /// One datagram there and back.
    fn ping(&self) {
        let server = self.node.run(|| udp("10.9.0.2:0"));
        let client = self.client.run(|| udp("10.9.0.1:0"));
        let mut buffer = [0; 16];
        client.send_to(b"ping", server.local_addr().unwrap()).unwrap();
        let (length, from) =
            uninterrupted(|| server.recv_from(&mut buffer)).expect("the request was lost");
        server.send_to(&buffer[..length], from).unwrap();
        uninterrupted(|| client.recv_from(&mut buffer)).expect("the reply was lost");
    }

    /// Packets that came in on the node's device, as the device counts them.
    fn received(&self) -> u64 {
        let text = self.node.run(|| fs::read_to_string("/proc/thread-self/net/dev")).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Packets that `from_netdev` has met.
fn seen(maps: &Maps) -> u64 {
    maps.counters()
        .unwrap()
        .iter()
        .filter(|(_, hook, _)| *hook == Hook::FromNetdev)
        .map(|(_, _, counter)| counter.packets)
        .sum()
}

fn links(root: &PinRoot) -> Vec<PathBuf> {
    fs::read_dir(root.path().join("links")).unwrap().map(|each| each.unwrap().path()).collect()
}

fn link_id(path: &Path) -> u32 {
    libbpf_rs::Link::open(path).unwrap().info().unwrap().id
}

fn cgroup_of(path: &Path) -> u64 {
    match libbpf_rs::Link::open(path).unwrap().info().unwrap().info {
        LinkTypeInfo::Cgroup(info) => info.cgroup_id,
        other => panic!("{other:?}"),
    }
}

/// A cgroup of this test, without processes.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = culvert::datapath::host::cgroup2().unwrap().expect("a mounted cgroup2");
        let path = parent.join(format!("culvert-test-{}-attach-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn id(&self) -> u64 {
        fs::metadata(&self.0).unwrap().ino()
    }

    fn remake(&self) {
        fs::remove_dir(&self.0).unwrap();
        fs::create_dir(&self.0).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
