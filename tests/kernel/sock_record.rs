// SPDX-License-Identifier: Apache-2.0
//! The record of a translation in its socket: what happens without room for it, and when it ends.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

use culvert::abi::TargetStatus;
use culvert::datapath::sockets::{Method, SocketDestroyer};

use crate::support::interrupt::uninterrupted;
use crate::support::objects::{Frontend, TCP, Target, UDP};
use crate::support::sockets::{SocketNode, receiver, udp};

const VIP: &str = "10.96.0.1:53";
const BACKEND: &str = "10.1.0.1:53";
/// On a link, where nobody answers for it.
const SILENT: &str = "10.5.0.2:53";

#[test]
fn a_closed_socket_that_the_kernel_still_holds_is_no_longer_one_of_a_service() {
    // Without the hook it is found: so this stages what it claims to.
    assert_eq!(closed_sockets_found(|node| node.detach("sock_release")), 1);
    assert_eq!(closed_sockets_found(|_| {}), 0);
}

/// How many sockets of a gone target are found after the only one was closed. A datagram that waits
/// for its neighbour's address keeps the socket in the kernel.
fn closed_sockets_found(change: impl FnOnce(&mut SocketNode)) -> usize {
    let mut node = SocketNode::new();
    change(&mut node);
    node.ip("link add near type veth peer name far");
    node.ip("addr add 10.5.0.1/24 dev near");
    node.ip("link set near up");
    node.ip("link set far up");
    let service = node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[SILENT]);
    let gone = service.targets()[0].gone();
    node.host(|| {
        let maps = node.objects.maps();
        let destroyer = SocketDestroyer::with_method(maps.sock_nat(), Method::SockDiag).unwrap();
        let client = udp("0.0.0.0:0");
        client.connect(VIP).unwrap();
        client.send(b"question").unwrap();
        drop(client);
        destroyer.destroy(&[gone], &[]).unwrap().found
    })
}

/// Such a socket knows what it was given before.
#[test]
fn a_socket_that_connects_again_gets_what_the_list_has_now() {
    let node = SocketNode::new();
    let addresses = [BACKEND, "10.1.0.2:53"];
    let service = node.objects.serve(Frontend::cluster_ip(VIP, UDP), &addresses);
    let targets = service.targets();
    node.host(|| {
        let servers = [&udp(addresses[0]), &udp(addresses[1])];
        let client = udp("0.0.0.0:0");
        let reached = || {
            client.connect(VIP).unwrap();
            assert_eq!(client.peer_addr().unwrap(), addr(VIP));
            client.send(b"question").unwrap();
            receiver(&servers).0
        };
        let both: Vec<usize> = (0..64).map(|_| reached()).collect();
        assert!(both.contains(&0) && both.contains(&1), "{both:?}");

        // Another has its slot, it is on its way out, or its index is somebody else's.
        service.set_backends(&[targets[1], targets[0]]);
        service.change(|service| service.inside.count = 1);
        assert!((0..16).all(|_| reached() == 1));
        service.set_backends(&[targets[0]]);
        node.objects.set_target(&targets[1], TargetStatus::Gone);
        assert!((0..16).all(|_| reached() == 0));
        let next =
            Target { epoch: targets[0].epoch + 1, address: addr(addresses[1]), ..targets[0] };
        node.objects.set_target(&next, TargetStatus::Active);
        service.set_backends(&[next]);
        assert!((0..16).all(|_| reached() == 1));
    });
}

#[test]
fn a_socket_connected_to_the_pod_itself_afterwards_shows_the_pod() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[BACKEND]);
    node.host(|| {
        let (server, client) = (udp(BACKEND), udp("0.0.0.0:0"));
        client.connect(VIP).unwrap();
        client.connect(BACKEND).unwrap();
        assert_eq!(client.peer_addr().unwrap(), addr(BACKEND));
        client.send(b"question").unwrap();
        let (_, from) = receiver(&[&server]);
        server.send_to(b"answer", from).unwrap();
        assert_eq!(uninterrupted(|| client.recv_from(&mut [0; 64])).unwrap().1, addr(BACKEND));
    });
}

#[test]
fn without_memory_for_the_record_tcp_is_translated_and_udp_is_unreachable() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::cluster_ip(VIP, TCP), &[BACKEND]);
    node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[BACKEND]);
    node.host(|| {
        // One namespace's own limit from Linux 6.8 on; before, the file is only in the first one.
        let limit = "/proc/sys/net/core/optmem_max";
        if !fs::exists(limit).unwrap() {
            return eprintln!("this kernel has one limit for all namespaces, which stays as it is");
        }
        fs::write(limit, "0").unwrap();

        let server = TcpListener::bind(BACKEND).unwrap();
        let client = TcpStream::connect(VIP).unwrap();
        server.accept().unwrap();
        // Nobody remembers the service.
        assert_eq!(client.peer_addr().unwrap(), BACKEND.parse().unwrap());

        let client = udp("0.0.0.0:0");
        let errors = [client.connect(VIP).unwrap_err(), client.send_to(b"x", VIP).unwrap_err()];
        assert_eq!(errors.map(|error| error.raw_os_error()), [Some(libc::EHOSTUNREACH); 2]);
    });
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
