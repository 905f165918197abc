// SPDX-License-Identifier: Apache-2.0
//! Fragments on real wires: cut and put together by the kernels at both ends, in order and not.

use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::wire::{NODE_PORT, WAIT, Wires, at, node_port, pattern};
use crate::support::interrupt::uninterrupted;
use crate::support::netns::NetNs;
use crate::support::node::{FAMILIES, Family};
use crate::support::objects::{Frontend, UDP};
use crate::support::packet::icmp::Echo;
use crate::support::packet::pieces::cut;
use crate::support::packet::{Packet, udp};

pub(super) const LENGTH: usize = 5000;

pub(super) fn udp_socket(ns: &NetNs, address: SocketAddr) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(WAIT).unwrap();
    socket
}

fn raw_socket(ns: &NetNs, family: Family, protocol: SockProtocol) -> OwnedFd {
    let domain = if family.v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    ns.run(|| {
        let fd = socket(domain, SockType::Raw, SockFlag::empty(), protocol).unwrap();
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
        fd
    })
}

fn send_raw(fd: &OwnedFd, bytes: &[u8], to: SocketAddr) {
    let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    sendto(fd.as_raw_fd(), bytes, &to, MsgFlags::empty()).unwrap();
}

/// Sends `packet` in fragments, the last one first.
pub(super) fn send_reversed(ns: &NetNs, family: Family, packet: &Packet) {
    let fd = raw_socket(ns, family, SockProtocol::Raw);
    for piece in cut(&packet.bytes(), 1200).iter().rev() {
        send_raw(&fd, &piece[14..], packet.dst);
    }
}

#[track_caller]
pub(super) fn receive(socket: &UdpSocket, content: &[u8]) -> SocketAddr {
    let mut buffer = vec![0; 2 * LENGTH];
    let (length, from) = uninterrupted(|| socket.recv_from(&mut buffer)).unwrap();
    assert!(buffer[..length] == *content, "{length} bytes");
    from
}

#[test]
fn large_datagrams_arrive_whole_both_ways_in_any_order() {
    let content = pattern(LENGTH);
    for family in FAMILIES {
        for (backend, port) in [(family.pod, 41000), (family.remote, 42000)] {
            let wires = Wires::new();
            let to = at(family, backend, 8080);
            let _service = wires.objects.serve(node_port(family, UDP), &[&to.to_string()]);
            let server = udp_socket(wires.home(family, backend), to);
            let front = at(family, family.node, NODE_PORT);
            let client = udp_socket(&wires.outside, at(family, family.client, port));
            client.send_to(&content, front).unwrap();
            let from = receive(&server, &content);
            server.send_to(&content, from).unwrap();
            assert_eq!(receive(&client, &content), front, "{backend}");

            // Of a flow that is there, and of one that is not.
            let other = udp_socket(&wires.outside, at(family, family.client, port + 1));
            for (client, port) in [(client, port), (other, port + 1)] {
                let request = udp(&family.at(family.client, port), &front.to_string());
                let request = Packet { payload: content.clone(), ..request };
                send_reversed(&wires.outside, family, &request);
                let from = receive(&server, &content);
                if backend == family.remote {
                    let answer = udp(&to.to_string(), &from.to_string());
                    let answer = Packet { payload: content.clone(), ..answer };
                    send_reversed(&wires.outside, family, &answer);
                } else {
                    server.send_to(&content, from).unwrap();
                }
                assert_eq!(receive(&client, &content), front, "{backend}");
            }
        }
    }
}

#[test]
fn a_pods_large_datagrams_reach_a_service_in_any_order() {
    let wires = Wires::new();
    let content = pattern(LENGTH);
    for family in FAMILIES {
        let to = at(family, family.remote, 8080);
        let vip = at(family, family.vip, 53);
        let frontend = Frontend::cluster_ip(&vip.to_string(), UDP);
        let _service = wires.objects.serve(frontend, &[&to.to_string()]);
        let server = udp_socket(&wires.outside, to);
        let client = udp_socket(&wires.pod, at(family, family.pod, 40001));
        client.send_to(&content, vip).unwrap();
        let from = receive(&server, &content);
        server.send_to(&content, from).unwrap();
        assert_eq!(receive(&client, &content), vip);

        let request = udp(&from.to_string(), &vip.to_string());
        send_reversed(&wires.pod, family, &Packet { payload: content.clone(), ..request });
        let from = receive(&server, &content);
        let answer = udp(&to.to_string(), &from.to_string());
        let answer = Packet { payload: content.clone(), ..answer };
        send_reversed(&wires.outside, family, &answer);
        assert_eq!(receive(&client, &content), vip);
    }
}

#[test]
fn large_traffic_that_nobody_translates_arrives() {
    let wires = Wires::new();
    let content = pattern(LENGTH);
    for family in FAMILIES {
        for (ns, host) in [(&wires.node, family.node), (&wires.pod, family.pod)] {
            let to = at(family, host, 5000);
            let server = udp_socket(ns, to);
            let client = udp_socket(&wires.outside, at(family, family.client, 40001));
            client.send_to(&content, to).unwrap();
            let from = receive(&server, &content);
            server.send_to(&content, from).unwrap();
            assert_eq!(receive(&client, &content), to);
            let packet = udp(&from.to_string(), &to.to_string());
            let packet = Packet { payload: content.clone(), ..packet };
            send_reversed(&wires.outside, family, &packet);
            assert_eq!(receive(&server, &content), from);

            let mut ping = Echo::request(family.client, host);
            ping.body.resize(LENGTH, 7);
            let protocol = if family.v6 { SockProtocol::IcmpV6 } else { SockProtocol::Icmp };
            let fd = raw_socket(&wires.outside, family, protocol);
            let header = 14 + if family.v6 { 40 } else { 20 };
            send_raw(&fd, &ping.bytes()[header..], to);
            let mut buffer = vec![0; 2 * LENGTH];
            // A raw socket also gets what else there is, neighbour discovery among it.
            loop {
                let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
                if buffer[..length].ends_with(&ping.body) {
                    break;
                }
            }
        }
    }
}
