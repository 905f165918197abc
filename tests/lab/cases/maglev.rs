// SPDX-License-Identifier: Apache-2.0
//! Maglev: a client's packets may come through any node, and all of them choose alike.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::dsr::{addresses, service};
use super::stage::{Stage, ip, serving};
use crate::support::interrupt::uninterrupted;

/// Client ports: enough that a choice by chance would not agree on all of them.
const PORTS: std::ops::Range<u16> = 42000..42024;

/// Who answers the client's port.
fn answering(stage: &Stage, port: u16, to: SocketAddr) -> String {
    let any = SocketAddr::new(ip(if to.is_ipv6() { "::" } else { "0.0.0.0" }), port);
    let socket = stage.lab.outside.netns.run(|| UdpSocket::bind(any)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"who", to).unwrap();
    let mut buffer = [0; 256];
    let (length, _) =
        uninterrupted(|| socket.recv_from(&mut buffer)).unwrap_or_else(|e| panic!("{to}: {e}"));
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    answer.split(' ').next().unwrap().to_owned()
}

#[test]
fn two_nodes_choose_the_same_backend_for_the_same_client() {
    let stage = Stage::raise(3, "loadBalancer:\n  algorithm: maglev\n");
    let middle = serving(&stage.lab, 2, "middle");
    let service = service("alike", 40);
    stage.serve(&service, &[&stage.web, &middle, &stage.far]);
    let client = &stage.lab.outside.netns;
    for v6 in [false, true] {
        let [to, _] = addresses(&service, v6);
        let through = |node: u8| -> Vec<String> {
            client.ip(&format!("route replace 192.0.2.0/24 via 192.168.50.{node}"));
            client.ip(&format!("route replace 2001:db8:c0::/64 via fd50::{node}"));
            PORTS.map(|port| answering(&stage, port, to)).collect()
        };
        let first = through(1);
        // Neither has the same backends as its own.
        assert_eq!(first, through(2), "{to}");
        assert_eq!(first, through(3), "{to}");
        for name in ["web", "middle", "far"] {
            assert!(first.iter().any(|each| each == name), "{to}: {first:?}");
        }
    }
}
