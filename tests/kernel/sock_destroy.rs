// SPDX-License-Identifier: Apache-2.0
//! Connected UDP sockets do not outlive their backend, and bystanders do not notice.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use culvert::abi::{GoneTarget, TargetStatus};
use culvert::datapath::sockets::{Method, SocketDestroyer};

use crate::support::objects::{Frontend, UDP};
use crate::support::sockets::{SocketNode, handle, namespace, receiver, udp};

const VIP: &str = "10.96.0.1:53";
const VIP6: &str = "[fd00:96::1]:53";
const OTHER: &str = "10.96.0.2:53";
const BACKEND: &str = "10.1.0.1:53";
const BACKEND6: &str = "[fd00:1::1]:53";

/// Every method this kernel has.
fn methods() -> Vec<Method> {
    let mut methods = vec![Method::of_kernel(), Method::SockDiag];
    methods.dedup();
    methods
}

#[test]
fn the_iterator_is_used_from_linux_6_5_on() {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let node = SocketNode::new();
    let destroyer = SocketDestroyer::new(node.objects.maps().sock_nat()).unwrap();
    let expected = if version >= (6, 5) { Method::Iterator } else { Method::SockDiag };
    assert_eq!(destroyer.method(), expected, "{release}");
}

#[test]
fn only_sockets_that_the_service_sent_there_are_destroyed() {
    for method in methods() {
        let node = SocketNode::new();
        let destroyer = destroyer(&node, method);
        let service = node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[BACKEND]);
        let service6 = node.objects.serve(Frontend::cluster_ip(VIP6, UDP), &[BACKEND6]);
        // The same address and port as a backend of another service, which keeps it.
        node.objects.serve(Frontend::cluster_ip(OTHER, UDP), &[BACKEND]);
        let gone = service.targets()[0];
        let gone6 = service6.targets()[0];

        node.host(|| {
            let server = udp(BACKEND);
            let _server6 = udp(BACKEND6);
            let doomed = [connected(VIP), connected("[::ffff:10.96.0.1]:53"), connected(VIP6)];
            let direct = connected(BACKEND);
            let other_service = connected(OTHER);
            let reconnected = connected(VIP);
            reconnected.connect(BACKEND).unwrap();
            let unconnected = udp("0.0.0.0:0");
            unconnected.send_to(b"question", VIP).unwrap();
            receiver(&[&server]);

            for target in [gone, gone6] {
                node.objects.set_target(&target, TargetStatus::Gone);
            }
            service.set_backends(&[node.objects.target("10.1.0.2:53")]);
            service6.set_backends(&[]);
            let report = destroyer.destroy(&[gone.gone(), gone6.gone()], &[]).unwrap();
            assert_eq!((report.found, report.left), (3, vec![]), "{method:?}");

            for socket in &doomed {
                assert_eq!(pending_error(socket), Some(libc::ECONNABORTED), "{method:?}");
                assert!(socket.peer_addr().is_err(), "{method:?}");
            }
            for bystander in [&direct, &other_service, &reconnected] {
                bystander.send(b"question").unwrap();
                receiver(&[&server]);
            }
            unconnected.send_to(b"question", VIP).unwrap();

            // The owner of a destroyed socket connects anew and is served.
            let replacement = udp("10.1.0.2:53");
            doomed[0].connect(VIP).unwrap();
            doomed[0].send(b"question").unwrap();
            receiver(&[&replacement]);
        });
    }
}

#[test]
fn sockets_of_pods_are_reached_through_their_namespace() {
    for method in methods() {
        let node = SocketNode::new();
        let destroyer = destroyer(&node, method);
        let service = node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[BACKEND]);
        let gone = service.targets()[0].gone();
        let pods = [namespace(), namespace()];
        let sockets: Vec<UdpSocket> =
            pods.iter().map(|pod| node.pod(pod, || connected(VIP))).collect();

        let first = handle(&pods[0]);
        let path = |fd: i32| PathBuf::from(format!("/proc/self/fd/{fd}"));
        let netns = [PathBuf::from("/nonexistent"), path(first.as_raw_fd())];
        let report = destroyer.destroy(&[gone], &netns).unwrap();
        assert_eq!((report.found, report.left.len()), (2, 1), "{method:?}");
        assert_eq!(pending_error(&sockets[0]), Some(libc::ECONNABORTED));
        assert_eq!(pending_error(&sockets[1]), None);

        let second = handle(&pods[1]);
        let report = destroyer.destroy(&[gone], &[path(second.as_raw_fd())]).unwrap();
        assert_eq!((report.found, report.left), (1, vec![]), "{method:?}");
    }
}

#[test]
fn another_epoch_of_the_target_is_another_target() {
    for method in methods() {
        let node = SocketNode::new();
        let destroyer = destroyer(&node, method);
        let service = node.objects.serve(Frontend::cluster_ip(VIP, UDP), &[BACKEND]);
        let target = service.targets()[0];
        node.host(|| {
            let server = udp(BACKEND);
            let client = connected(VIP);
            let former = GoneTarget { epoch: target.epoch - 1, ..target.gone() };
            assert_eq!(destroyer.destroy(&[former], &[]).unwrap().found, 0);
            client.send(b"question").unwrap();
            receiver(&[&server]);
        });
    }
}

fn destroyer(node: &SocketNode, method: Method) -> SocketDestroyer {
    SocketDestroyer::with_method(node.objects.maps().sock_nat(), method).unwrap()
}

fn pending_error(socket: &UdpSocket) -> Option<i32> {
    socket.take_error().unwrap().and_then(|error| error.raw_os_error())
}

fn connected(to: &str) -> UdpSocket {
    let socket = udp(if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
    socket.connect(to).unwrap();
    socket
}
