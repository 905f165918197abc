// SPDX-License-Identifier: Apache-2.0
//! bpf_sock and whom it serves: unknown ports, external IPs, hostPorts, source ranges.

use std::io;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use culvert::abi::{
    Addr, Client, OWNED_NODEPORT, Outcome, SERVICE_SOURCE_RANGES, SERVICE_SOURCE_RANGES_DENY,
    ServiceKind, Settings, SourceRange, SourceRangeKey, VIP_CLUSTER_IP, VIP_EXTERNAL, VIP_FOREIGN,
};
use culvert::datapath::host;

use crate::support::netns::NetNs;
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::sockets::{SocketNode, namespace, receiver, udp};

const BACKEND: &str = "10.1.0.1:8080";
const BACKEND6: &str = "[fd00:1::1]:8080";

/// Service, backend, and an unknown port of the same address.
const CLUSTER_IPS: [[&str; 3]; 2] =
    [["10.96.0.1:80", BACKEND, "10.96.0.1:81"], ["[fd00:96::1]:80", BACKEND6, "[fd00:96::1]:81"]];

#[test]
fn an_unknown_port_of_a_cluster_ip_is_refused_at_once() {
    let node = SocketNode::new();
    let pod = namespace();
    let mut refused = 0;
    for [vip, backend, unknown] in CLUSTER_IPS {
        node.objects.serve(Frontend::cluster_ip(vip, TCP), &[backend]);
        let mut all_refused = || {
            let server = TcpListener::bind(backend).unwrap();
            // The second time the address is known from the first, if the service was asked for.
            for _ in 0..2 {
                for to in [unknown, vip] {
                    // The service is a TCP one.
                    let client = any(to);
                    assert_eq!(errno(client.connect(to)), libc::ECONNREFUSED, "{to}");
                    assert_eq!(errno(client.send_to(b"x", to)), libc::ECONNREFUSED, "{to}");
                }
                assert_eq!(tcp_error(unknown), libc::ECONNREFUSED);
                refused += 5;
                TcpStream::connect(vip).unwrap();
                server.accept().unwrap();
            }
        };
        node.host(&mut all_refused);
        node.pod(&pod, &mut all_refused);
    }
    assert_eq!(counted(&node, Outcome::DropUnknownPort), refused);
}

/// ping(8) connects a datagram socket to some port first, to learn its own address.
#[test]
fn a_pods_datagram_socket_connects_to_an_unknown_port_and_its_packets_are_refused() {
    for [vip, backend, unknown] in CLUSTER_IPS {
        let node = SocketNode::new();
        node.objects.serve(Frontend::cluster_ip(vip, TCP), &[backend]);
        let (known, stranger) = (namespace(), namespace());
        if !know(&node, &known, "10.244.1.5", "fd00:244:1::5") {
            return eprintln!("this kernel tells no cookie of a namespace");
        }
        node.pod(&known, || {
            // Left alone: there is no route.
            assert_eq!(errno(any(unknown).connect(unknown)), libc::ENETUNREACH);
            assert_eq!(errno(any(unknown).send_to(b"x", unknown)), libc::ECONNREFUSED);
            assert_eq!(tcp_error(unknown), libc::ECONNREFUSED);
        });
        // Whoever leaves through a device that is not ours, and the node, whose echo nobody answers.
        let refused = || assert_eq!(errno(any(unknown).connect(unknown)), libc::ECONNREFUSED);
        node.pod(&stranger, refused);
        node.host(refused);
    }
}

#[test]
fn an_unknown_port_travels_where_others_may_serve_it() {
    let node = SocketNode::new();
    let unknown = "203.0.113.1:81";
    let vip = unknown.parse::<std::net::SocketAddr>().unwrap().ip().into();
    // As a load balancer's, as one that another class owns, as a former service's.
    for flags in [VIP_EXTERNAL, VIP_CLUSTER_IP | VIP_FOREIGN, 0] {
        node.objects.vip(&vip, flags);
        node.host(|| assert_eq!(tcp_error(unknown), libc::ENETUNREACH, "{flags}"));
    }
    node.objects.vip(&vip, VIP_CLUSTER_IP);
    node.host(|| assert_eq!(tcp_error(unknown), libc::ECONNREFUSED));
    // An address that the node has: its own server.
    node.ip("addr add 203.0.113.1/32 dev lo");
    node.objects.own("203.0.113.1", 0);
    node.host(|| {
        let _server = TcpListener::bind(unknown).unwrap();
        TcpStream::connect(unknown).unwrap();
    });
}

#[test]
fn an_external_ip_is_withheld_unless_the_node_owns_it() {
    let node = SocketNode::with(|config| config.external_ips_inside = 0);
    let pod = namespace();
    let vips = [
        ("203.0.113.1:80", ServiceKind::ExternalIp, false),
        ("203.0.113.2:80", ServiceKind::ExternalIp, true),
        ("203.0.113.3:80", ServiceKind::LoadBalancer, true),
        ("10.96.0.1:80", ServiceKind::ClusterIp, true),
    ];
    for (vip, kind, _) in vips {
        node.objects.serve(Frontend::cluster_ip(vip, TCP).kind(kind), &[BACKEND]);
    }
    node.objects.own("203.0.113.2", 0);
    let served = || {
        let _server = TcpListener::bind(BACKEND).unwrap();
        for (vip, _, served) in vips {
            assert_eq!(TcpStream::connect(vip).is_ok(), served, "{vip}");
        }
        assert_eq!(tcp_error("203.0.113.1:80"), libc::ENETUNREACH);
    };
    node.host(served);
    node.pod(&pod, served);
}

#[test]
fn a_host_port_is_served_outside_the_node_port_range_while_there_is_one() {
    let node = SocketNode::new();
    let pod = namespace();
    let host_port = Frontend::node_port_v4(8443, TCP).kind(ServiceKind::HostPort);
    node.objects.serve(host_port, &[BACKEND]);
    node.objects.own("192.0.2.1", OWNED_NODEPORT);
    node.objects.own("192.0.2.2", 0);
    let error = |to: &str| node.pod(&pod, || tcp_error(to));
    // Nobody has told that there is one: its lookup is spared.
    assert_eq!(error("192.0.2.1:8443"), libc::ENETUNREACH);

    let settings = Settings { host_ports: 1, ..Default::default() };
    node.objects.maps().settings.set(&0, &settings).unwrap();
    let reach = |to: &str| {
        let server = TcpListener::bind(BACKEND).unwrap();
        TcpStream::connect(to).unwrap();
        server.accept().unwrap();
    };
    node.pod(&pod, || reach("192.0.2.1:8443"));
    node.host(|| reach("127.0.0.1:8443"));
    assert_eq!(error("192.0.2.2:8443"), libc::ENETUNREACH);
    assert_eq!(error("192.0.2.3:8443"), libc::ENETUNREACH);
}

#[test]
fn a_host_ip_is_served_on_the_nodes_addresses_and_its_loopback() {
    let node = SocketNode::new();
    let pod = namespace();
    for vip in ["203.0.113.1:8443", "203.0.113.2:8443", "127.0.0.1:8443", "[::1]:8443"] {
        let backend = if vip.starts_with('[') { BACKEND6 } else { BACKEND };
        let frontend = Frontend::cluster_ip(vip, TCP).kind(ServiceKind::HostPort);
        node.objects.serve(frontend, &[backend]);
    }
    for owned in ["203.0.113.2", "127.0.0.1", "::1"] {
        node.objects.own(owned, 0);
    }
    // Bound once: a child that another test starts meanwhile keeps a closed one's port.
    let servers = [BACKEND, BACKEND6].map(|at| node.host(|| TcpListener::bind(at).unwrap()));
    node.host(|| {
        for vip in ["203.0.113.2:8443", "127.0.0.1:8443", "[::1]:8443"] {
            TcpStream::connect(vip).unwrap_or_else(|error| panic!("{vip}: {error}"));
            servers[usize::from(vip.starts_with('['))].accept().unwrap();
        }
    });
    let server = node.pod(&pod, || TcpListener::bind(BACKEND).unwrap());
    node.pod(&pod, || TcpStream::connect("203.0.113.2:8443").unwrap());
    server.accept().unwrap();
    // Whoever may make a pod takes nobody else's address.
    node.host(|| assert_eq!(tcp_error("203.0.113.1:8443"), libc::ENETUNREACH));
    // A pod's loopback is its own, where nobody listens.
    node.pod(&pod, || assert_eq!(tcp_error("127.0.0.1:8443"), libc::ECONNREFUSED));
}

#[test]
fn source_ranges_let_in_the_pods_they_name_and_the_node() {
    for [vip, backend, _] in CLUSTER_IPS {
        let v6 = vip.starts_with('[');
        let node = SocketNode::new();
        let frontend = |proto| Frontend::cluster_ip(vip, proto).kind(ServiceKind::LoadBalancer);
        let services = [TCP, UDP].map(|proto| node.objects.serve(frontend(proto), &[backend]));
        for service in &services {
            service.change(|service| service.flags |= SERVICE_SOURCE_RANGES);
            let range = if v6 { "fd00:244:1::/64" } else { "10.244.1.0/24" };
            let key = SourceRangeKey::new(service.id, range.parse().unwrap());
            node.objects.maps().source_ranges.set(&key, &SourceRange::default()).unwrap();
        }
        let (listed, other, unknown) = (namespace(), namespace(), namespace());
        if !know(&node, &listed, "10.244.1.5", "fd00:244:1::5") {
            return eprintln!("this kernel tells no cookie of a namespace");
        }
        know(&node, &other, "10.244.2.5", "fd00:244:2::5");

        // Bound once: a child that another test starts meanwhile keeps a closed one's port.
        let listen = || TcpListener::bind(backend).unwrap();
        let _servers = [node.host(listen), node.pod(&listed, listen), node.pod(&other, listen)];
        let served = || {
            TcpStream::connect(vip).unwrap();
            let client = any(vip);
            client.send_to(b"x", vip).unwrap();
            client
        };
        let denied = || {
            assert_eq!(tcp_error(vip), libc::EHOSTUNREACH);
            let client = any(vip);
            assert_eq!(errno(client.connect(vip)), libc::EHOSTUNREACH);
            assert_eq!(errno(client.send_to(b"x", vip)), libc::EHOSTUNREACH);
        };
        node.host(served);
        let former = node.pod(&listed, served);
        node.pod(&other, denied);
        assert_eq!(counted(&node, Outcome::DropDenied), 3);
        // Who it is only its packets can tell.
        node.pod(&unknown, || assert_eq!(tcp_error(vip), libc::ENETUNREACH));

        for service in &services {
            service.change(|service| service.flags |= SERVICE_SOURCE_RANGES_DENY);
        }
        node.host(served);
        node.pod(&other, served);
        node.pod(&listed, denied);
        // New connections only: who talked to a backend goes on.
        node.pod(&listed, || {
            let server = udp(backend);
            former.send_to(b"question", vip).unwrap();
            receiver(&[&server]);
        });
    }
}

/// Tells the programs the addresses of `pod`. False where the kernel has no cookie for it.
fn know(node: &SocketNode, pod: &NetNs, v4: &str, v6: &str) -> bool {
    let Ok(cookie) = pod.run(host::netns_cookie) else { return false };
    let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
    let client = Client { v4: addr(v4), v6: addr(v6) };
    node.objects.maps().clients.set(&cookie, &client).unwrap();
    true
}

fn counted(node: &SocketNode, wanted: Outcome) -> u64 {
    let counters = node.objects.maps().counters().unwrap();
    let of = counters.iter().filter(|(outcome, ..)| *outcome == wanted);
    of.map(|(.., counter)| counter.packets).sum()
}

fn any(to: &str) -> UdpSocket {
    udp(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })
}

#[track_caller]
fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[track_caller]
fn tcp_error(to: &str) -> i32 {
    errno(TcpStream::connect(to))
}
