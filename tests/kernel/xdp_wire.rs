// SPDX-License-Identifier: Apache-2.0
//! bpf_xdp attached, between real sockets: a client, the node with two uplinks, and a backend.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use culvert::abi::{Counter, Hook, OWNED_NODEPORT, Outcome, Settings, Uplink, XdpDevice};
use culvert::datapath::XdpMode;
use nix::net::if_::if_nametoindex;

use super::host::{NODE_PORT, node_port};
use super::wire::{at, echo, mac};
use crate::support::interrupt::uninterrupted;
use crate::support::netns::NetNs;
use crate::support::node::{FAMILIES, Family, ip};
use crate::support::objects::{Objects, TCP, UDP};
use crate::support::pins::all_programs_but;

const WAIT: Option<Duration> = Some(Duration::from_secs(10));
const UPLINKS: [&str; 2] = ["eth0", "eth1"];

/// Client and backend, each behind an uplink of its own or both behind the first.
struct Wires {
    client: NetNs,
    backend: NetNs,
    node: NetNs,
    objects: Objects,
    /// Keep the programs on the other ends of the cables.
    _peers: Vec<Objects>,
    two: bool,
}

impl Wires {
    fn new(two: bool) -> Self {
        Self::with_mtu(two, 1500)
    }

    fn with_mtu(two: bool, mtu: u32) -> Self {
        let [client, backend, node] = [NetNs::new(), NetNs::new(), NetNs::new()];
        node.run(|| culvert::datapath::sysctl::enable_forwarding().unwrap());
        let objects = node.run(|| Objects::load(|_| ()));
        let mut wires = Self { client, backend, node, objects, _peers: Vec::new(), two };
        wires.cable();
        wires.fill(mtu);
        let ends: &[&NetNs] = if two { &[&wires.client, &wires.backend] } else { &[&wires.client] };
        for (ns, device) in ends.iter().zip(UPLINKS) {
            without_checksum_offload(ns, "eth0");
            ns.ip(&format!("link set eth0 mtu {mtu}"));
            wires.node.ip(&format!("link set {device} mtu {mtu}"));
        }
        // A veth hands what a driver hook sends only to a peer that has such a program too.
        wires._peers = ends.iter().map(|ns| pass_all(ns, "eth0")).collect();
        wires
    }

    /// The namespace that has the backend's address.
    fn home(&self) -> &NetNs {
        if self.two { &self.backend } else { &self.client }
    }

    fn cable(&self) {
        self.node.veth("eth0", "", &self.client, "eth0", "");
        if self.two {
            self.node.veth("eth1", "", &self.backend, "eth0", "");
        }
        for family in FAMILIES {
            let (length, net, flag, v) =
                if family.v6 { (128, 64, " nodad", "-6") } else { (32, 24, "", "-4") };
            let gateway = if family.v6 { "fd09::fe" } else { "10.9.0.254" };
            self.client.ip(&format!("addr add {gateway}/{net} dev eth0{flag}"));
            self.client.ip(&format!("addr add {}/{length} dev lo{flag}", family.client));
            self.home().ip(&format!("addr add {}/{length} dev lo{flag}", family.remote));
            self.node.ip(&format!("addr add {}/{net} dev eth0{flag}", family.node));
            self.node.ip(&format!("{v} route add default via {gateway}"));
            if self.two {
                let [here, there] =
                    if family.v6 { ["fd0a::1", "fd0a::fe"] } else { ["10.10.0.1", "10.10.0.254"] };
                self.node.ip(&format!("addr add {here}/{net} dev eth1{flag}"));
                self.node.ip(&format!("{v} route add {} via {there}", family.remote));
                self.backend.ip(&format!("addr add {there}/{net} dev eth0{flag}"));
            }
        }
    }

    fn uplinks(&self) -> &[&'static str] {
        if self.two { &UPLINKS } else { &UPLINKS[..1] }
    }

    fn fill(&self, mtu: u32) {
        let maps = self.objects.maps();
        maps.settings.set(&0, &Settings { route_epoch: 1, ..Default::default() }).unwrap();
        for family in FAMILIES {
            self.objects.own(family.node, OWNED_NODEPORT);
        }
        let snat = [["10.9.0.1", "fd09::1"], ["10.10.0.1", "fd0a::1"]];
        for (&device, [v4, v6]) in self.uplinks().iter().zip(&snat) {
            let ifindex = self.node.run(|| if_nametoindex(device).unwrap());
            let value = Uplink {
                snat_v4: ip(v4),
                snat_v6: ip(v6),
                snat_v4_target: 0,
                snat_v6_target: 0,
                snat_v4_epoch: 0,
                snat_v6_epoch: 0,
                mtu,
            };
            maps.uplinks.set(&ifindex, &value).unwrap();
            let value = XdpDevice { mac: mac(&self.node, device), pad: 0 };
            maps.xdp_devices.set(&ifindex, &value).unwrap();
            self.node.run(|| {
                let datapath = self.objects.datapath();
                datapath.attach_uplink(ifindex, device).unwrap();
                datapath.attach_xdp(ifindex, device, XdpMode::Native).unwrap();
            });
        }
    }

    fn finished(&self) -> u64 {
        finished(&self.objects)
    }
}

/// Packets that the driver hook has sent on.
pub(super) fn finished(objects: &Objects) -> u64 {
    sent_on(objects).packets
}

fn sent_on(objects: &Objects) -> Counter {
    objects.counted(Outcome::Forwarded, Hook::Xdp)
}

/// Lets a device receive what another's driver hook sends: attaches one that serves nothing.
pub(super) fn pass_all(ns: &NetNs, device: &str) -> Objects {
    ns.run(|| {
        let objects = Objects::open(|options| {
            options.programs_off.extend(all_programs_but(&["xdp_entry"]));
        });
        let ifindex = if_nametoindex(device).unwrap();
        objects.datapath().attach_xdp(ifindex, device, XdpMode::Native).unwrap();
        objects
    })
}

/// What leaves a driver hook is no skb: no device fills its checksum in any more.
pub(super) fn without_checksum_offload(ns: &NetNs, device: &str) {
    let status = ns.run(|| {
        let mut ethtool = Command::new("ethtool");
        ethtool.args(["-K", device, "tx", "off"]).stdout(Stdio::null());
        ethtool.status().expect("ethtool is installed")
    });
    assert!(status.success(), "ethtool -K {device} tx off: {status}");
}

/// Sends so many bytes to the backend and gets them back; returns how many frames the driver finished.
fn transfer(wires: &Wires, family: Family, length: usize) -> u64 {
    let to = at(family, family.remote, 8080);
    let _service = wires.objects.serve(node_port(family, TCP), &[&to.to_string()]);
    let listener = wires.home().run(|| TcpListener::bind(to).unwrap());
    let before = wires.finished();
    let mut stream = wires.client.run(|| connect(at(family, family.node, NODE_PORT)));
    let (mut server, _) = listener.accept().unwrap();
    echo(&mut stream, &mut server, length);
    wires.finished() - before
}

#[test]
fn transfers_are_finished_in_the_driver_both_ways() {
    for two in [false, true] {
        let wires = Wires::new(two);
        for family in FAMILIES {
            // Payload alone is more than 2900 full segments a way; acknowledgements come on top.
            let finished = transfer(&wires, family, 4 << 20);
            assert!(finished > 5000, "{finished} frames: {two} {family:?}");
        }
    }
}

/// What does not fit into one buffer lies in several, of which the program sees the first alone.
#[test]
fn large_frames_are_finished_in_the_driver_too() {
    const LENGTH: usize = 4 << 20;
    for two in [false, true] {
        let wires = Wires::with_mtu(two, 9000);
        for family in FAMILIES {
            let before = sent_on(&wires.objects).bytes;
            let finished = transfer(&wires, family, LENGTH);
            let bytes = sent_on(&wires.objects).bytes - before;
            assert!(bytes > 2 * LENGTH as u64, "{bytes} bytes: {two} {family:?}");
            // Some 470 a way if they are large, and with the acknowledgements fewer than small ones.
            assert!((930..2900).contains(&finished), "{finished} frames: {two} {family:?}");
        }
    }
}

#[test]
fn datagrams_are_finished_in_the_driver_both_ways() {
    const ROUNDS: u64 = 200;
    for two in [false, true] {
        let wires = Wires::new(two);
        for family in FAMILIES {
            let to = at(family, family.remote, 8080);
            let _service = wires.objects.serve(node_port(family, UDP), &[&to.to_string()]);
            let server = wires.home().run(|| UdpSocket::bind(to).unwrap());
            let client =
                wires.client.run(|| UdpSocket::bind(at(family, family.client, 0)).unwrap());
            client.connect(at(family, family.node, NODE_PORT)).unwrap();
            for socket in [&server, &client] {
                socket.set_read_timeout(WAIT).unwrap();
            }
            let before = wires.finished();
            let started = Instant::now();
            for round in 0..ROUNDS {
                let mut buffer = [0; 64];
                client.send(&round.to_ne_bytes()).unwrap();
                let (length, from) =
                    uninterrupted(|| server.recv_from(&mut buffer)).expect("the request was lost");
                server.send_to(&buffer[..length], from).unwrap();
                let length =
                    uninterrupted(|| client.recv(&mut buffer)).expect("the answer was lost");
                assert_eq!(buffer[..length], round.to_ne_bytes());
            }
            // In each tick the first of each way goes up; so does what opens the flow.
            let ticks = started.elapsed().as_secs() + 2;
            let finished = wires.finished() - before;
            assert!(finished + 2 * ticks + 2 >= 2 * ROUNDS, "{finished} in {ticks} ticks");
        }
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, WAIT.unwrap()).unwrap();
    stream.set_read_timeout(WAIT).unwrap();
    stream.set_write_timeout(WAIT).unwrap();
    stream
}
