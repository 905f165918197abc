// SPDX-License-Identifier: Apache-2.0
//! bpf_sock and connected sockets: which addresses are translated, for whom, and what is shown.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use culvert::abi::{
    OWNED_LOOPBACK, OWNED_NODEPORT, Outcome, SERVICE_HAS_ENDPOINTS, ServiceKind, SlotRange,
};

use crate::support::interrupt::uninterrupted;
use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::sockets::{SocketNode, namespace, receiver, udp};

const VIP: &str = "10.96.0.1:80";
const VIP6: &str = "[fd00:96::1]:80";
const BACKEND: &str = "10.1.0.1:8080";
const BACKEND6: &str = "[fd00:1::1]:8080";

#[test]
fn tcp_reaches_the_backend_and_sees_the_service() {
    let node = SocketNode::new();
    for (vip, backend) in [(VIP, BACKEND), (VIP6, BACKEND6)] {
        node.objects.serve(Frontend::cluster_ip(vip, TCP), &[backend]);
        node.host(|| {
            let server = TcpListener::bind(backend).unwrap();
            let client = TcpStream::connect(vip).unwrap();
            let (_, from) = server.accept().unwrap();
            assert_eq!(from, client.local_addr().unwrap());
            assert_eq!(client.peer_addr().unwrap(), addr(vip));
        });
    }
}

#[test]
fn connected_udp_reaches_the_backend_and_sees_the_service() {
    let node = SocketNode::new();
    for (vip, backend, any) in [(VIP, BACKEND, "0.0.0.0:0"), (VIP6, BACKEND6, "[::]:0")] {
        node.objects.serve(Frontend::cluster_ip(vip, UDP), &[backend]);
        node.host(|| {
            let (server, client) = (udp(backend), udp(any));
            client.connect(vip).unwrap();
            client.send(b"question").unwrap();
            let (_, from) = receiver(&[&server]);
            server.send_to(b"answer", from).unwrap();
            let mut buffer = [0; 64];
            assert_eq!(uninterrupted(|| client.recv_from(&mut buffer)).unwrap(), (6, addr(vip)));
            assert_eq!(client.peer_addr().unwrap(), addr(vip));
        });
    }
}

#[test]
fn an_ipv6_socket_reaches_an_ipv4_service_by_its_mapped_address() {
    let node = SocketNode::new();
    let mapped = "[::ffff:10.96.0.1]:80";
    node.objects.serve(Frontend::cluster_ip(VIP, TCP), &[BACKEND]);
    node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[BACKEND]);
    node.host(|| {
        let server = TcpListener::bind(BACKEND).unwrap();
        let client = TcpStream::connect(mapped).unwrap();
        server.accept().unwrap();
        assert_eq!(client.peer_addr().unwrap(), addr(mapped));

        let (server, client) = (udp(BACKEND), udp("[::]:0"));
        client.connect(mapped).unwrap();
        client.send(b"question").unwrap();
        let (_, from) = receiver(&[&server]);
        server.send_to(b"answer", from).unwrap();
        assert_eq!(uninterrupted(|| client.recv_from(&mut [0; 64])).unwrap().1, addr(mapped));
        assert_eq!(client.peer_addr().unwrap(), addr(mapped));
    });
}

#[test]
fn every_backend_gets_its_share() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[BACKEND, "10.1.0.2:8080"]);
    node.host(|| {
        let servers = [&udp(BACKEND), &udp("10.1.0.2:8080")];
        let mut reached = [0; 2];
        // The chance that one of the two gets all 64 is 2^-63.
        for _ in 0..64 {
            let client = udp("0.0.0.0:0");
            client.connect(VIP).unwrap();
            client.send(b"question").unwrap();
            reached[receiver(&servers).0] += 1;
        }
        assert!(reached[0] > 0 && reached[1] > 0, "{reached:?}");
    });
}

#[test]
fn other_addresses_are_left_alone() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::cluster_ip(VIP, TCP), &[BACKEND]);
    node.host(|| {
        let server = TcpListener::bind(BACKEND).unwrap();
        let direct = TcpStream::connect(BACKEND).unwrap();
        server.accept().unwrap();
        assert_eq!(direct.peer_addr().unwrap(), addr(BACKEND));

        // There is no route to it but through a service.
        assert_eq!(tcp_error("10.96.0.2:80"), libc::ENETUNREACH);
    });
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let node = SocketNode::new();
    for (vip, any) in [(VIP, "0.0.0.0:0"), (VIP6, "[::]:0")] {
        node.objects.serve(Frontend::cluster_ip(vip, TCP), &[]);
        node.objects.serve(Frontend::cluster_ip(vip, UDP), &[]);
        node.host(|| {
            assert_eq!(tcp_error(vip), libc::ECONNREFUSED);
            assert_eq!(connect_udp_error(vip), libc::ECONNREFUSED);
            assert_eq!(errno(udp(any).send_to(b"question", vip)), libc::ECONNREFUSED);
        });
    }
    node.host(|| assert_eq!(tcp_error("[::ffff:10.96.0.1]:80"), libc::ECONNREFUSED));

    let counted = node.objects.maps().counters().unwrap();
    let rejected = counted.iter().find(|(outcome, ..)| *outcome == Outcome::Rejected);
    assert_eq!(rejected.map(|(.., counter)| counter.packets), Some(7), "{counted:?}");
}

#[test]
fn a_service_whose_endpoints_are_all_elsewhere_is_unreachable_at_once() {
    let node = SocketNode::new();
    let service = node.objects.serve(Frontend::cluster_ip(VIP, TCP), &[BACKEND]);
    service.change(|service| {
        service.inside = SlotRange::default();
        service.flags = SERVICE_HAS_ENDPOINTS;
    });
    node.host(|| assert_eq!(tcp_error(VIP), libc::EHOSTUNREACH));
}

#[test]
fn a_service_whose_slots_are_missing_is_unreachable_at_once() {
    let node = SocketNode::new();
    let service = node.objects.serve(Frontend::cluster_ip(VIP, TCP), &[BACKEND]);
    service.change(|service| service.generation += 1);
    node.host(|| assert_eq!(tcp_error(VIP), libc::EHOSTUNREACH));
}

#[test]
fn a_node_port_is_served_on_the_node_s_own_addresses() {
    let node = SocketNode::new();
    let pod = namespace();
    node.objects.serve(Frontend::node_port_v4(30080, TCP), &[BACKEND]);
    node.objects.serve(Frontend::node_port_v6(30080, TCP), &[BACKEND6]);
    node.objects.own("192.0.2.1", OWNED_NODEPORT);
    node.objects.own("2001:db8::1", OWNED_NODEPORT);
    node.objects.own("192.0.2.2", 0);

    let reaches_backends = || {
        for (to, backend) in [("192.0.2.1:30080", BACKEND), ("[2001:db8::1]:30080", BACKEND6)] {
            let server = TcpListener::bind(backend).unwrap();
            let client = TcpStream::connect(to).unwrap();
            server.accept().unwrap();
            assert_eq!(client.peer_addr().unwrap(), addr(to));
        }
        assert_eq!(tcp_error("192.0.2.2:30080"), libc::ENETUNREACH);
        assert_eq!(tcp_error("192.0.2.1:30081"), libc::ENETUNREACH);
    };
    node.host(reaches_backends);
    node.pod(&pod, reaches_backends);
}

#[test]
fn another_node_s_node_port_is_that_node_s_business() {
    let node = SocketNode::new();
    let pod = namespace();
    node.objects.serve(Frontend::node_port_v4(30080, TCP), &[BACKEND]);
    node.pod(&pod, || {
        let other_node = TcpListener::bind("10.9.9.9:30080").unwrap();
        let client = TcpStream::connect("10.9.9.9:30080").unwrap();
        other_node.accept().unwrap();
        assert_eq!(client.peer_addr().unwrap(), addr("10.9.9.9:30080"));
    });
}

#[test]
fn a_node_port_on_loopback_is_for_the_host_only() {
    let node = SocketNode::new();
    let pod = namespace();
    node.objects.serve(Frontend::node_port_v4(30080, TCP), &[BACKEND]);
    node.objects.serve(Frontend::node_port_v6(30080, TCP), &[BACKEND6]);
    node.objects.own("10.7.7.7", OWNED_LOOPBACK);
    // The last three name loopback by leaving the address open.
    let v4 = ["127.0.0.1:30080", "127.9.9.9:30080", "[::ffff:127.0.0.1]:30080", "10.7.7.7:30080"];
    let open = ["0.0.0.0:30080", "[::ffff:0.0.0.0]:30080"];
    let v6 = ["[::1]:30080", "[::]:30080"];

    node.host(|| {
        let server = TcpListener::bind(BACKEND).unwrap();
        for to in v4.into_iter().chain(open) {
            let client = TcpStream::connect(to).unwrap();
            server.accept().unwrap();
            if !open.contains(&to) {
                assert_eq!(client.peer_addr().unwrap(), addr(to));
            }
        }
        let server = TcpListener::bind(BACKEND6).unwrap();
        for to in v6 {
            let client = TcpStream::connect(to).unwrap();
            server.accept().unwrap();
            assert_eq!(client.peer_addr().unwrap(), addr("[::1]:30080"));
        }
    });
    node.pod(&pod, || {
        let _servers = [TcpListener::bind(BACKEND).unwrap(), TcpListener::bind(BACKEND6).unwrap()];
        for to in v4.into_iter().chain(open).chain(v6) {
            let refused = tcp_error(to);
            let expected =
                if to.starts_with("10.") { libc::ENETUNREACH } else { libc::ECONNREFUSED };
            assert_eq!(refused, expected, "{to}");
        }
    });
}

#[test]
fn external_and_load_balancer_addresses_are_translated_whoever_owns_them() {
    let node = SocketNode::new();
    let vips = [
        ("203.0.113.1:80", ServiceKind::ExternalIp),
        ("203.0.113.2:80", ServiceKind::LoadBalancer),
    ];
    for (vip, kind) in vips {
        node.objects.serve(Frontend::cluster_ip(vip, TCP).kind(kind), &[BACKEND]);
    }
    node.host(|| {
        let server = TcpListener::bind(BACKEND).unwrap();
        for (vip, _) in vips {
            let client = TcpStream::connect(vip).unwrap();
            server.accept().unwrap();
            assert_eq!(client.peer_addr().unwrap(), addr(vip));
        }
    });
}

#[test]
fn host_only_mode_leaves_pods_to_bpf_lxc() {
    let node = SocketNode::with(|config| config.socket_lb_host_only = 1);
    let pod = namespace();
    node.objects.serve(Frontend::cluster_ip(VIP, TCP), &[BACKEND]);
    let server = || TcpListener::bind(BACKEND).unwrap();
    node.host(|| {
        let _server = server();
        assert_eq!(TcpStream::connect(VIP).unwrap().peer_addr().unwrap(), addr(VIP));
    });
    node.pod(&pod, || {
        let _server = server();
        assert_eq!(tcp_error(VIP), libc::ENETUNREACH);
    });
}

#[test]
fn the_hooks_off_leave_everybody_alone() {
    let node = SocketNode::with(|config| config.socket_lb = 0);
    node.objects.serve(Frontend::cluster_ip(VIP, TCP), &[BACKEND]);
    node.host(|| assert_eq!(tcp_error(VIP), libc::ENETUNREACH));
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[track_caller]
fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[track_caller]
fn tcp_error(to: &str) -> i32 {
    errno(TcpStream::connect(to))
}

#[track_caller]
fn connect_udp_error(to: &str) -> i32 {
    let any = if addr(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    errno(UdpSocket::bind(any).unwrap().connect(to))
}
