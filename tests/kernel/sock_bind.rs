// SPDX-License-Identifier: Apache-2.0
//! bpf_sock and bind(2): NodePorts are taken on the host, and nowhere else.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use culvert::abi::ServiceKind;

use crate::support::objects::{Frontend, TCP, UDP};
use crate::support::sockets::{SocketNode, namespace};

const BACKEND: &str = "10.1.0.1:8080";

#[test]
fn a_node_port_is_in_use_on_the_host() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::node_port_v4(30080, TCP), &[BACKEND]);
    node.objects.serve(Frontend::node_port_v6(30086, UDP), &["[fd00:1::1]:8080"]);
    node.host(|| {
        for address in ["0.0.0.0:30080", "127.0.0.1:30080", "10.1.0.1:30080", "[::]:30080"] {
            assert_eq!(tcp(address), Err(libc::EADDRINUSE), "{address}");
        }
        for address in ["[::]:30086", "[::1]:30086"] {
            let error = UdpSocket::bind(address).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{address}");
        }
    });
}

#[test]
fn everything_else_may_be_bound() {
    let node = SocketNode::new();
    node.objects.serve(Frontend::node_port_v4(30080, TCP), &[BACKEND]);
    node.objects.serve(Frontend::node_port_v4(8443, TCP).kind(ServiceKind::HostPort), &[BACKEND]);
    node.host(|| {
        // The backend's own port, another protocol's, another family's, a hostPort, any port.
        for address in [BACKEND, "[::1]:30080", "0.0.0.0:8443", "0.0.0.0:0"] {
            assert_eq!(tcp(address), Ok(()), "{address}");
        }
        UdpSocket::bind("0.0.0.0:30080").unwrap();
    });
    node.pod(&namespace(), || assert_eq!(tcp("0.0.0.0:30080"), Ok(())));
}

#[test]
fn without_protection_a_node_port_may_be_bound() {
    let node = SocketNode::with(|config| config.bind_protection = 0);
    node.objects.serve(Frontend::node_port_v4(30080, TCP), &[BACKEND]);
    node.host(|| assert_eq!(tcp("0.0.0.0:30080"), Ok(())));
}

/// Below 5.14 nobody tells the agent its cookie.
#[test]
fn the_initial_namespace_is_the_host_where_no_cookie_is_told() {
    // Kernel threads live there, and a container does not see them.
    let kernel_thread = fs::read_to_string("/proc/2/comm").is_ok_and(|it| it == "kthreadd\n");
    let [own, theirs] = ["self", "2"].map(|who| fs::read_link(format!("/proc/{who}/ns/net")).ok());
    let initial = kernel_thread && own == theirs;
    let node = SocketNode::with(|config| config.host_netns_cookie = 0);
    node.objects.serve(Frontend::node_port_v4(39080, TCP), &[BACKEND]);
    let bound = node.outer(|| tcp("127.0.0.1:39080"));
    assert_eq!(bound.is_err(), initial, "{bound:?}");
    node.pod(&namespace(), || assert_eq!(tcp("127.0.0.1:39080"), Ok(())));
}

fn tcp(address: &str) -> Result<(), i32> {
    TcpListener::bind(address).map(drop).map_err(|error| error.raw_os_error().unwrap())
}
