// SPDX-License-Identifier: Apache-2.0
//! The attached datapath between real sockets: checksums that are left to the device, segments that
//! are merged, tags and marks, which one packet at a time cannot show.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use culvert::abi::{Endpoint, OWNED_NODEPORT, Settings, Uplink, VIP_CLUSTER_IP, VIP_FOREIGN};
use culvert::datapath::Datapath;
use culvert::datapath::netlink::peer_netns_number;
use nix::net::if_::if_nametoindex;

use super::xdp_wire::without_checksum_offload;
use crate::support::interrupt::uninterrupted;
use crate::support::netns::NetNs;
use crate::support::node::{FAMILIES, Family, endpoint, ip};
use crate::support::objects::{Frontend, Objects, TCP, UDP};
use crate::support::pins::PinRoot;

pub(super) const NODE_PORT: u16 = 30080;
pub(super) const WAIT: Option<Duration> = Some(Duration::from_secs(10));

/// `outside` has the client and the remote backend, both behind the node's uplink.
pub(super) struct Wires {
    pub outside: NetNs,
    pub node: NetNs,
    pub pod: NetNs,
    pub objects: Objects,
}

impl Wires {
    pub fn new() -> Self {
        Self::over("eth0", |_| ())
    }

    /// `prepare` makes `link`, of that name in both namespaces that it gets, from their `eth0`.
    pub fn over(link: &str, prepare: impl Fn(&NetNs)) -> Self {
        let [outside, node, pod] = [NetNs::new(), NetNs::new(), NetNs::new()];
        node.veth("eth0", "", &outside, "eth0", "");
        [&node, &outside].into_iter().for_each(prepare);
        node.veth("lxc1", "", &pod, "eth0", "");
        for family in FAMILIES {
            let (length, net, flag, gateway) = if family.v6 {
                (128, "fd09::fe/64", " nodad", "fd09::fe")
            } else {
                (32, "10.9.0.254/24", "", "10.9.0.254")
            };
            let v = if family.v6 { "-6" } else { "-4" };
            outside.ip(&format!("addr add {net} dev {link}{flag}"));
            for own in [family.client, family.remote] {
                outside.ip(&format!("addr add {own}/{length} dev lo{flag}"));
            }
            let bits = net.rsplit('/').next().unwrap();
            node.ip(&format!("addr add {}/{bits} dev {link}{flag}", family.node));
            node.ip(&format!("{v} route add default via {gateway}"));
            node.ip(&format!("{v} route add {}/{length} dev lxc1", family.pod));
            outside.ip(&format!("{v} route add {}/{length} via {}", family.pod, family.node));
            pod.ip(&format!("addr add {}/{length} dev eth0{flag}", family.pod));
            pod.ip(&format!("{v} route add default dev eth0"));
        }
        let objects = node.run(|| {
            culvert::datapath::sysctl::enable_forwarding().unwrap();
            Objects::load(|_| ())
        });
        let wires = Self { outside, node, pod, objects };
        wires.fill(link);
        wires
    }

    fn fill(&self, link: &str) {
        let index = |name: &str| self.node.run(|| if_nametoindex(name).unwrap());
        let (uplink, pod) = (index(link), index("lxc1"));
        let maps = self.objects.maps();
        let endpoint = Endpoint {
            mac: mac(&self.pod, "eth0"),
            host_mac: mac(&self.node, "lxc1"),
            netns_number: self.node.run(|| peer_netns_number(pod).unwrap()),
            ..endpoint(pod)
        };
        for family in FAMILIES {
            self.objects.own(family.node, OWNED_NODEPORT);
            maps.endpoints.set(&ip(family.pod), &endpoint).unwrap();
        }
        let [v4, v6] = FAMILIES.map(|family| ip(family.node));
        let value = Uplink {
            snat_v4: v4,
            snat_v6: v6,
            snat_v4_target: 0,
            snat_v6_target: 0,
            snat_v4_epoch: 0,
            snat_v6_epoch: 0,
            mtu: 1500,
        };
        maps.uplinks.set(&uplink, &value).unwrap();
        maps.settings
            .set(&0, &Settings { route_epoch: 1, trace: 0, ..Default::default() })
            .unwrap();
        self.node.run(|| {
            self.objects.datapath().attach_uplink(uplink, link).unwrap();
            self.objects.datapath().attach_pod(pod, "lxc1").unwrap();
        });
    }

    /// The namespace that has a backend address.
    pub fn home(&self, family: Family, backend: &str) -> &NetNs {
        if backend == family.pod { &self.pod } else { &self.outside }
    }
}

pub(super) fn mac(ns: &NetNs, device: &str) -> [u8; 6] {
    let shown = ns.run(|| {
        std::process::Command::new("ip").args(["-br", "link", "show", device]).output().unwrap()
    });
    let text = String::from_utf8(shown.stdout).unwrap();
    let text = text.split_whitespace().nth(2).unwrap().to_owned();
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

pub(super) fn node_port(family: Family, proto: u8) -> Frontend {
    if family.v6 {
        Frontend::node_port_v6(NODE_PORT, proto)
    } else {
        Frontend::node_port_v4(NODE_PORT, proto)
    }
}

pub(super) fn at(family: Family, host: &str, port: u16) -> SocketAddr {
    family.at(host, port).parse().unwrap()
}

/// Byte `i` of what is transferred; a segment in the wrong place shows.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
}

#[test]
fn large_transfers_arrive_whole_both_ways() {
    for family in FAMILIES {
        for backend in [family.pod, family.remote] {
            transfer(&Wires::new(), family, backend, 8 << 20);
        }
    }
}

/// Of a checksum that the sender's device was to finish (`CHECKSUM_PARTIAL`) only the pseudo header's
/// part is there to be corrected: the node's own device finishes it, and the receiver looks at it.
#[test]
fn what_a_sender_left_to_its_device_is_finished_behind_the_node() {
    for family in FAMILIES {
        let wires = Wires::new();
        without_checksum_offload(&wires.node, "eth0");
        transfer(&wires, family, family.remote, 3000);
    }
}

/// Sends so many bytes to `server`, and gets them back.
pub(super) fn echo(client: &mut TcpStream, server: &mut TcpStream, length: usize) {
    let content = pattern(length);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut all = vec![0; length];
            server.read_exact(&mut all).unwrap();
            server.write_all(&all).unwrap();
        });
        client.write_all(&content).unwrap();
        let mut back = vec![0; length];
        client.read_exact(&mut back).unwrap();
        assert!(back == content, "the content was changed: {client:?}");
    });
}

/// So many bytes through the NodePort to `backend`, and back.
pub(super) fn transfer(wires: &Wires, family: Family, backend: &str, length: usize) {
    let to = at(family, backend, 8080);
    let _service = wires.objects.serve(node_port(family, TCP), &[&to.to_string()]);
    let listener = wires.home(family, backend).run(|| TcpListener::bind(to).unwrap());
    let front = at(family, family.node, NODE_PORT);
    let mut stream =
        wires.outside.run(|| TcpStream::connect_timeout(&front, WAIT.unwrap()).unwrap());
    stream.set_read_timeout(WAIT).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    echo(&mut stream, &mut server, length);
}

#[test]
fn nobodys_service_refuses_hosts_that_no_socket_hook_stopped() {
    let wires = Wires::new();
    for family in FAMILIES {
        let [served, empty, unknown] = [80, 81, 82].map(|port| at(family, family.vip, port));
        let _served = wires
            .objects
            .serve(Frontend::cluster_ip(&served.to_string(), TCP), &[&family.at(family.pod, 8080)]);
        let _empty = wires.objects.serve(Frontend::cluster_ip(&empty.to_string(), TCP), &[]);
        for to in [empty, unknown] {
            let refused =
                wires.node.run(|| TcpStream::connect_timeout(&to, WAIT.unwrap()).unwrap_err());
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{to}: {refused}");
        }
        // An address of other load balancers is left to them, with all its ports.
        wires.objects.vip(&ip(family.vip), VIP_CLUSTER_IP | VIP_FOREIGN);
        let short = Duration::from_millis(300);
        let travels = wires.node.run(|| TcpStream::connect_timeout(&empty, short).unwrap_err());
        assert_ne!(travels.kind(), std::io::ErrorKind::ConnectionRefused, "{travels}");
    }
}

#[test]
fn nobodys_service_refuses_client_and_pod_at_once() {
    let wires = Wires::new();
    for family in FAMILIES {
        let front = at(family, family.node, NODE_PORT);
        let _tcp = wires.objects.serve(node_port(family, TCP), &[]);
        let _udp = wires.objects.serve(node_port(family, UDP), &[]);
        for ns in [&wires.outside, &wires.pod] {
            let refused = ns.run(|| TcpStream::connect_timeout(&front, WAIT.unwrap()).unwrap_err());
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
            let any = if family.v6 { "[::]:0" } else { "0.0.0.0:0" };
            let socket = ns.run(|| UdpSocket::bind(any).unwrap());
            socket.set_read_timeout(WAIT).unwrap();
            socket.connect(front).unwrap();
            socket.send(b"anybody?").unwrap();
            let refused = uninterrupted(|| socket.recv(&mut [0; 8])).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
        }
    }
}

#[test]
fn another_program_on_the_device_sees_what_ours_leaves_alone() {
    let wires = Wires::new();
    let root = PinRoot::new();
    let second = wires.node.run(|| {
        let second = Datapath::open(root.options()).unwrap();
        second.attach_uplink(if_nametoindex("eth0").unwrap(), "eth0").unwrap();
        second
    });
    let family = FAMILIES[0];
    let refused = wires.outside.run(|| {
        TcpStream::connect_timeout(&at(family, family.node, 9), WAIT.unwrap()).unwrap_err()
    });
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
    let counters = second.maps().counters().unwrap();
    let seen: u64 = counters.iter().map(|(.., counter)| counter.packets).sum();
    assert!(seen >= 2, "{seen} packets");
}
