// SPDX-License-Identifier: Apache-2.0
//! bpf_sock and unconnected UDP: a choice per service that lasts as long as its backend.

use std::net::{SocketAddr, UdpSocket};

use culvert::abi::TargetStatus;

use crate::support::objects::{Frontend, UDP};
use crate::support::sockets::{SocketNode, receiver, sender_seen, udp};

const VIP: &str = "10.96.0.1:53";
const BACKENDS: [&str; 2] = ["10.1.0.1:53", "10.1.0.2:53"];

#[test]
fn replies_come_from_the_service() {
    let node = SocketNode::new();
    let cases = [
        (VIP, VIP, BACKENDS[0], "0.0.0.0:0"),
        ("[fd00:96::1]:53", "[fd00:96::1]:53", "[fd00:1::1]:53", "[::]:0"),
        (VIP, "[::ffff:10.96.0.1]:53", BACKENDS[0], "[::]:0"),
    ];
    for (vip, named, backend, any) in cases {
        node.objects.serve(Frontend::cluster_ip(vip, UDP), &[backend]);
        node.host(|| {
            let (server, client) = (udp(backend), udp(any));
            client.send_to(b"question", named).unwrap();
            let (_, from) = receiver(&[&server]);
            assert_eq!(sender_seen(&server, &client, from), addr(named));
        });
    }
}

#[test]
fn a_stranger_s_datagram_keeps_its_sender() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::cluster_ip(VIP, UDP), &BACKENDS[..1]);
    node.host(|| {
        let (server, client) = (udp(BACKENDS[0]), udp("0.0.0.0:0"));
        client.send_to(b"question", VIP).unwrap();
        let (_, from) = receiver(&[&server]);
        for stranger in ["10.1.0.1:54", "10.1.0.2:53"] {
            assert_eq!(sender_seen(&udp(stranger), &client, from), addr(stranger));
        }
    });
}

#[test]
fn the_choice_sticks_while_its_backend_is_there_and_is_made_anew_when_it_left() {
    let node = SocketNode::new();
    let service = node.objects.serve(Frontend::cluster_ip(VIP, UDP), &BACKENDS);
    let targets = service.targets();
    node.host(|| {
        let servers = [&udp(BACKENDS[0]), &udp(BACKENDS[1])];
        let client = udp("0.0.0.0:0");
        let send = || {
            client.send_to(b"question", VIP).unwrap();
            let (index, from) = receiver(&servers);
            assert_eq!(sender_seen(servers[index], &client, from), addr(VIP));
            index
        };

        let first = send();
        for _ in 0..40 {
            assert_eq!(send(), first);
        }
        // Terminating, and no longer in any slot: what is on its way there goes on.
        node.objects.set_target(&targets[first], TargetStatus::Terminating);
        service.set_backends(&[targets[1 - first]]);
        assert_eq!(send(), first);

        node.objects.set_target(&targets[first], TargetStatus::Gone);
        assert_eq!(send(), 1 - first);

        // The index goes to somebody else: that does not bring the old choice back.
        node.objects.set_target(&targets[1 - first], TargetStatus::Gone);
        let mut reused = targets[1 - first];
        reused.epoch += 1;
        node.objects.set_target(&reused, TargetStatus::Active);
        let back = node.objects.target(BACKENDS[first]);
        service.set_backends(&[back]);
        assert_eq!(send(), first);
    });
}

#[test]
fn a_service_made_anew_under_the_same_address_is_another_one() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::cluster_ip(VIP, UDP), &BACKENDS[..1]);
    node.host(|| {
        let servers = [&udp(BACKENDS[0]), &udp(BACKENDS[1])];
        let client = udp("0.0.0.0:0");
        client.send_to(b"question", VIP).unwrap();
        assert_eq!(receiver(&servers).0, 0);

        // serve() gives it a new id.
        node.objects.maps().services.remove(&Frontend::cluster_ip(VIP, UDP).key()).unwrap();
        node.objects.serve(Frontend::cluster_ip(VIP, UDP), &BACKENDS[1..]);
        client.send_to(b"question", VIP).unwrap();
        assert_eq!(receiver(&servers).0, 1);
    });
}

#[test]
fn of_two_services_with_one_backend_the_one_used_last_is_shown() {
    let node = SocketNode::new();
    let other = "10.96.0.2:53";
    node.objects.serve(Frontend::cluster_ip(VIP, UDP), &BACKENDS[..1]);
    node.objects.serve(Frontend::cluster_ip(other, UDP), &BACKENDS[..1]);
    node.host(|| {
        let (server, client) = (udp(BACKENDS[0]), udp("0.0.0.0:0"));
        for to in [VIP, other, VIP, BACKENDS[0], other, BACKENDS[0]] {
            client.send_to(b"question", to).unwrap();
            let (_, from) = receiver(&[&server]);
            assert_eq!(sender_seen(&server, &client, from), addr(to));
        }
    });
}

#[test]
fn the_ninth_service_of_a_socket_replaces_the_oldest() {
    let node = SocketNode::new();
    let vip = |number: u16| format!("10.96.0.{number}:53");
    let backend = |number: u16| format!("10.1.0.1:{}", 5300 + number);
    for number in 1..=9 {
        node.objects.serve(Frontend::cluster_ip(&vip(number), UDP), &[&backend(number)]);
    }
    node.host(|| {
        let client = udp("0.0.0.0:0");
        let servers: Vec<UdpSocket> = (1..=9).map(|number| udp(&backend(number))).collect();
        let mut from = client.local_addr().unwrap();
        for number in 1..=9 {
            client.send_to(b"question", vip(number)).unwrap();
            from = receiver(&[&servers[usize::from(number) - 1]]).1;
        }
        let seen: Vec<SocketAddr> =
            servers.iter().map(|server| sender_seen(server, &client, from)).collect();
        assert_eq!(seen[0], addr(&backend(1)));
        for number in 2..=9 {
            assert_eq!(seen[usize::from(number) - 1], addr(&vip(number)));
        }
    });
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
