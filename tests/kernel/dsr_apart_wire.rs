// SPDX-License-Identifier: Apache-2.0
//! Direct server return on wires: what must not be mixed up, and what comes in pieces.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use culvert::abi::DsrDispatch;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};

use super::dsr_wires::Wires;
use super::fragments_wire::{LENGTH, receive, send_reversed, udp_socket};
use super::wire::{WAIT, at, pattern};
use crate::support::interrupt::uninterrupted;
use crate::support::node::{FAMILIES, Family};
use crate::support::objects::{TCP, UDP};
use crate::support::packet::{Packet, udp};

const DISPATCHES: [DsrDispatch; 3] = [DsrDispatch::Option, DsrDispatch::Ipip, DsrDispatch::Geneve];

/// What one client port asks of two services, through LB nodes that know nothing of each other.
fn twins(wires: &Wires, family: Family) {
    let services = [80, 81].map(|port| at(family, family.vip, port));
    let _tcp = [wires.serve_at(family, TCP, 80), wires.serve_at(family, TCP, 81)];
    let _udp = [wires.serve_at(family, UDP, 80), wires.serve_at(family, UDP, 81)];

    let server = wires.pod.run(|| UdpSocket::bind(at(family, family.pod, 8080)).unwrap());
    let client = wires.client.run(|| UdpSocket::bind(at(family, family.client, 40001)).unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(WAIT).unwrap();
    }
    let mut seen = Vec::new();
    for to in services.iter().chain(&services) {
        let mut buffer = [0; 64];
        client.send_to(b"twin", to).unwrap();
        let (length, from) =
            uninterrupted(|| server.recv_from(&mut buffer)).expect("the request was lost");
        server.send_to(&buffer[..length], from).unwrap();
        let (_, answered) =
            uninterrupted(|| client.recv_from(&mut buffer)).expect("the answer was lost");
        assert_eq!(answered, *to);
        seen.push(from);
        wires.forget();
    }
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[..2], seen[2..]);

    let listener = wires.pod.run(|| TcpListener::bind(at(family, family.pod, 8080)).unwrap());
    let from = at(family, family.client, 40002);
    let mut open: Vec<_> = services
        .iter()
        .map(|to| {
            wires.forget();
            let stream = wires.client.run(|| connect(from, *to));
            let server = listener.accept().unwrap().0;
            server.set_read_timeout(WAIT).unwrap();
            (stream, server)
        })
        .collect();
    for round in 0_u8..6 {
        // Other LB nodes take both over, and each does not know of the other.
        let apart = round == 3 || round == 4;
        for (client, server) in &mut open {
            if apart {
                wires.forget();
            }
            let mut byte = [round];
            client.write_all(&byte).unwrap();
            server.read_exact(&mut byte).unwrap();
            server.write_all(&byte).unwrap();
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
        if round == 1 {
            wires.forget();
        }
    }
}

/// A connection from a port that another one may have too.
pub(super) fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    socket::setsockopt(&fd, socket::sockopt::ReuseAddr, &true).unwrap();
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(WAIT).unwrap();
    stream
}

#[test]
fn one_client_port_through_two_lb_nodes_stays_apart() {
    for dispatch in DISPATCHES {
        let wires = Wires::new(dispatch, false);
        for family in FAMILIES {
            if wires.direct {
                twins(&wires, family);
            }
        }
    }
}

/// A datagram in pieces has no room for a word about its service; its flow is open already.
#[test]
fn large_datagrams_reach_the_pod_whole_in_any_order() {
    let content = pattern(LENGTH);
    for dispatch in DISPATCHES {
        let wires = Wires::new(dispatch, false);
        for family in FAMILIES {
            let _service = wires.serve_at(family, UDP, 80);
            let front = at(family, family.vip, 80);
            let server = udp_socket(&wires.pod, at(family, family.pod, 8080));
            let own = at(family, family.client, 40001);
            let client = udp_socket(&wires.client, own);
            let exchange = |content: &[u8], send: &dyn Fn()| {
                send();
                let from = receive(&server, content);
                assert_eq!(from == own, wires.direct, "{dispatch:?}: {from}");
                server.send_to(content, from).unwrap();
                assert_eq!(receive(&client, content), front);
            };
            exchange(b"small", &|| _ = client.send_to(b"small", front).unwrap());
            for _ in 0..2 {
                exchange(&content, &|| _ = client.send_to(&content, front).unwrap());
                let request = udp(&own.to_string(), &front.to_string());
                let request = Packet { payload: content.clone(), ..request };
                exchange(&content, &|| send_reversed(&wires.client, family, &request));
            }
        }
    }
}
