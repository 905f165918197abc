// SPDX-License-Identifier: Apache-2.0
//! Direct server return: the way that packets take, and what may happen on it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage,
};

use super::dsr::{addresses, raise, service};
use super::stage::{Stage, eventually, serving};
use crate::lab::manifest::Service;
use crate::lab::place::Place;

/// Every frame that a place sends and receives.
struct Capture(OwnedFd);

impl Capture {
    fn start(place: &Place) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open =
            || socket::socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll);
        Self(place.netns.run(open).unwrap())
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [0; 65536];
        while let Ok(length) = socket::recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            frames.push(buffer[..length].to_vec());
        }
        frames
    }
}

/// Source address and port of a TCP or UDP packet without options.
fn source(frame: &[u8]) -> Option<SocketAddr> {
    let at = |range: std::ops::Range<usize>| frame.get(range);
    let port = |from: usize| Some(u16::from_be_bytes(at(from..from + 2)?.try_into().ok()?));
    match at(12..14)? {
        [8, 0] => {
            let ip: [u8; 4] = at(26..30)?.try_into().ok()?;
            Some(SocketAddr::new(ip.into(), port(34)?))
        }
        [0x86, 0xdd] => {
            let ip: [u8; 16] = at(22..38)?.try_into().ok()?;
            Some(SocketAddr::new(ip.into(), port(54)?))
        }
        _ => None,
    }
}

fn mac(place: &Place) -> Vec<u8> {
    let output = place.output(place.command("cat").arg("/proc/self/net/dev")).unwrap();
    assert!(output.status.success());
    let link = place.output(place.command("ip").args(["-o", "link", "show", "eth0"])).unwrap();
    let text = String::from_utf8(link.stdout).unwrap();
    let mac = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn answers_come_straight_from_the_backends_node() {
    for dispatch in ["opt", "ipip"] {
        let stage = raise("dsr", dispatch, "");
        let service = service("straight", 30);
        stage.serve(&service, &[&stage.far]);
        let (client, expected) = (&stage.lab.outside, mac(&stage.lab.node(3).place));
        for v6 in [false, true] {
            for to in addresses(&service, v6) {
                for protocol in ["tcp", "udp"] {
                    let capture = Capture::start(client);
                    let outcome = stage.ask(client, protocol, to);
                    assert!(outcome.is_from("far"), "{dispatch}: {protocol} to {to}: {outcome:?}");
                    let frames = capture.frames();
                    let answers = frames.iter().filter(|frame| source(frame) == Some(to));
                    let senders: Vec<&[u8]> = answers.map(|frame| &frame[6..12]).collect();
                    assert!(!senders.is_empty(), "no answer of {to} among {} frames", frames.len());
                    assert!(senders.iter().all(|mac| *mac == expected), "{to}: {senders:x?}");
                }
            }
        }
    }
}

/// Talks with `to` and what else happens meanwhile must not disturb them.
fn undisturbed(stage: &mut Stage, service: &Service, meanwhile: impl FnOnce(&mut Stage)) {
    let mut talks = Vec::new();
    for v6 in [false, true] {
        for to in addresses(service, v6) {
            for protocol in ["tcp", "tcp-new", "udp"] {
                talks.push(stage.talk(&stage.lab.outside, protocol, to));
            }
        }
    }
    meanwhile(stage);
    let flaws: Vec<_> = talks.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
}

#[test]
fn killed_agents_on_the_way_lose_nothing() {
    for dispatch in ["opt", "ipip"] {
        let mut stage = raise("dsr", dispatch, "");
        let service = service("killed", 31);
        stage.serve(&service, &[&stage.far]);
        undisturbed(&mut stage, &service, |stage| {
            // The first node takes requests, the third answers them.
            for index in [0, 2, 0, 2] {
                let node = &mut stage.lab.nodes[index];
                let agent = node.agent.as_mut().unwrap();
                agent.kill().unwrap();
                agent.wait().unwrap();
                node.start_agent().unwrap();
                node.wait_ready().unwrap();
            }
        });
    }
}

/// What a router does that has several nodes for an address: another one takes the connection over.
/// Only a Maglev table gives both the same backend: what is near comes first in a node's own list.
#[test]
fn a_connection_goes_on_through_another_node() {
    for dispatch in ["opt", "ipip"] {
        let stage = raise("dsr", dispatch, "  algorithm: maglev\n");
        let service = service("moved", 32);
        let (near, next) = (serving(&stage.lab, 1, "near"), serving(&stage.lab, 2, "next"));
        stage.serve(&service, &[&stage.far, &near, &next]);
        let client = &stage.lab.outside;
        let mut talks = Vec::new();
        for v6 in [false, true] {
            let [to, _] = addresses(&service, v6);
            for protocol in ["tcp", "udp"] {
                talks.extend((0..8).map(|_| stage.talk(client, protocol, to)));
            }
        }
        // Some have their backend on the node that takes them over, or on the one that they leave.
        for name in ["near", "next"] {
            assert!(talks.iter().any(|talk| talk.first == name), "none talks to {name}");
        }
        let capture = Capture::start(&stage.lab.node(2).place);
        for node in [2, 1, 2] {
            client.netns.ip(&format!("route replace 192.0.2.0/24 via 192.168.50.{node}"));
            client.netns.ip(&format!("route replace 2001:db8:c0::/64 via fd50::{node}"));
            // Long enough for the option that goes along once a second.
            std::thread::sleep(Duration::from_millis(2500));
        }
        assert!(!capture.frames().is_empty(), "nothing went through the second node");
        let flaws: Vec<_> = talks.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
        assert!(flaws.is_empty(), "{dispatch}: {flaws:#?}");
    }
}

#[test]
fn large_requests_fit_in_spite_of_what_is_added_to_them() {
    for dispatch in ["opt", "ipip"] {
        let stage = raise("dsr", dispatch, "");
        let service = service("large", 33);
        stage.serve(&service, &[&stage.far]);
        for v6 in [false, true] {
            for to in addresses(&service, v6) {
                stream_much(&stage, to);
                send_full_datagrams(&stage, to, v6);
            }
        }
    }
}

fn stream_much(stage: &Stage, to: SocketAddr) {
    let mut stream = stage.lab.outside.netns.run(|| connect(to, 0));
    let line = "x".repeat(200_000);
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        let answer = ask(&mut stream, &line).unwrap_or_else(|cause| panic!("{to}: {cause}"));
        assert_eq!(answer.len() - answer.find('x').unwrap(), line.len());
    }
}

/// As large as the link carries, which with a word about the service is too much: the client is
/// told, and what it sends afterwards arrives.
fn send_full_datagrams(stage: &Stage, to: SocketAddr, v6: bool) {
    let any: SocketAddr = if v6 { "[::]:0" } else { "0.0.0.0:0" }.parse().unwrap();
    let socket = stage.lab.outside.netns.run(|| UdpSocket::bind(any)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let question = "y".repeat(if v6 { 1452 } else { 1472 });
    eventually(&format!("a full datagram to {to} is answered"), || {
        // EMSGSIZE is what the socket was told.
        let _ = socket.send(question.as_bytes());
        let mut buffer = [0; 4096];
        socket.recv(&mut buffer).is_ok_and(|length| length > question.len())
    });
}

/// Port 0 lets the kernel choose.
pub fn connect(to: SocketAddr, from_port: u16) -> TcpStream {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    socket::setsockopt(&fd, socket::sockopt::ReuseAddr, &true).unwrap();
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let from = SocketAddr::new(any.parse().unwrap(), from_port);
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to))
        .unwrap_or_else(|cause| panic!("{to} from port {from_port}: {cause}"));
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

pub fn ask(stream: &mut TcpStream, question: &str) -> io::Result<String> {
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}
