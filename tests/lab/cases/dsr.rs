// SPDX-License-Identifier: Apache-2.0
//! Direct server return: who sees whom, in every mode, dispatch, protocol and family.
//!
//! The first node is the one that clients ask; the backend is on the third.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::LazyLock;

use super::sctp::with_sctp;
use super::stage::{Stage, eventually, ip, status};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::support::interrupt::uninterrupted;

const KEY: &str = "00112233445566778899aabbccddeeff\n";

/// Three nodes that have a key in common.
pub fn raise(mode: &str, dispatch: &str, more: &str) -> Stage {
    let config = format!("loadBalancer:\n  mode: {mode}\n  dsrDispatch: {dispatch}\n{}", keyed());
    Stage::raise(3, &format!("{config}{more}"))
}

/// The line of `loadBalancer` that names the file with the key.
pub fn keyed() -> String {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        // A machine of the VM tests has the binaries only.
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("dsr-key");
        std::fs::write(&path, KEY).unwrap();
        path
    });
    format!("  dsrKeyFile: {}\n", FILE.display())
}

pub fn service(name: &'static str, number: u8) -> Service {
    Service {
        name,
        kind: "LoadBalancer",
        number,
        node_port: Some(30000 + u16::from(number)),
        ingress: vec![ip(&format!("192.0.2.{number}")), ip(&format!("2001:db8:c0::{number}"))],
        ..Service::default()
    }
}

/// The service's addresses at the first node.
pub fn addresses(service: &Service, v6: bool) -> [SocketAddr; 2] {
    [
        SocketAddr::new(service.ingress[usize::from(v6)], SERVICE_PORT),
        SocketAddr::new(node_ip(1, v6), service.node_port.unwrap()),
    ]
}

fn outside(v6: bool) -> IpAddr {
    node_ip(100, v6)
}

/// What is wrong with an answer from `far`, whose server should have seen `expected`.
fn flaw(outcome: &Outcome, to: SocketAddr, expected: IpAddr) -> Option<String> {
    match outcome {
        Outcome::Answer { name, peer, seen } => {
            (name != "far" || *seen != to || peer.ip() != expected)
                .then(|| format!("`{name}` saw {peer}, the client {seen}"))
        }
        Outcome::Error { error } => Some(error.clone()),
    }
}

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "udp-unconnected"];

fn the_server_sees_the_client(stage: &Stage, service: &Service) -> Vec<String> {
    the_server_sees(stage, service, outside)
}

/// What is wrong with the answers of `service`; the server should have seen `whom`, by family.
fn the_server_sees(stage: &Stage, service: &Service, whom: fn(bool) -> IpAddr) -> Vec<String> {
    let mut failures = Vec::new();
    for v6 in [false, true] {
        for to in addresses(service, v6) {
            for protocol in PROTOCOLS {
                let outcome = stage.ask(&stage.lab.outside, protocol, to);
                let flaw = flaw(&outcome, to, whom(v6));
                failures.extend(flaw.map(|flaw| format!("{protocol} to {to}: {flaw}")));
            }
        }
    }
    failures
}

/// The same by SCTP, whose port of the service is not the backend's.
fn sctp_too(stage: &Stage, service: &Service) -> Vec<String> {
    stage.lab.publish(service.name, &with_sctp(service, &[&stage.far])).unwrap();
    let mut failures = Vec::new();
    for v6 in [false, true] {
        for to in addresses(service, v6) {
            // The agents may not have heard of it yet.
            let known = |outcome: &Outcome| outcome.is_from("far");
            let outcome = stage.ask_until(&stage.lab.outside, "sctp", to, known);
            let flaw = flaw(&outcome, to, outside(v6));
            failures.extend(flaw.map(|flaw| format!("sctp to {to}: {flaw}")));
        }
    }
    failures
}

#[test]
fn by_ip_option_the_server_sees_the_client_and_the_client_the_service() {
    let stage = raise("dsr", "opt", "");
    let service = service("opt", 20);
    stage.serve(&service, &[&stage.far]);
    let mut failures = the_server_sees_the_client(&stage, &service);
    failures.extend(sctp_too(&stage, &service));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    the_status_says(&stage, "IP Option/Extension", [1484, 1468]);
}

#[test]
fn by_ipip_the_server_sees_the_client_and_the_client_the_service() {
    let stage = raise("dsr", "ipip", "");
    let service = service("ipip", 21);
    stage.serve(&service, &[&stage.far]);
    let mut failures = the_server_sees_the_client(&stage, &service);
    failures.extend(sctp_too(&stage, &service));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    the_status_says(&stage, "IPIP", [1480, 1460]);
}

#[test]
fn by_geneve_the_server_sees_the_client_where_the_kernel_has_it() {
    let stage = raise("dsr", "geneve", "kubeProxyReplacement: partial\n");
    let service = service("geneve", 27);
    stage.serve(&service, &[&stage.far]);
    let direct = has_geneve(&stage);
    let whom = if direct { outside } else { |v6| node_ip(1, v6) };
    if direct {
        // The agents make the device as soon as they can.
        let [to, _] = addresses(&service, false);
        let known = |outcome: &Outcome| flaw(outcome, to, outside(false)).is_none();
        stage.ask_until(&stage.lab.outside, "tcp", to, known);
        the_status_says(&stage, "Geneve", [1410, 1398]);
    }
    let failures = the_server_sees(&stage, &service, whom);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn has_geneve(stage: &Stage) -> bool {
    let probe = stage.lab.node(1).culvert(&["probe"]).unwrap();
    probe.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("geneve") && words.next() == Some("yes")
    })
}

/// `room`: what a request may have, by family.
fn the_status_says(stage: &Stage, dispatch: &str, [v4, v6]: [u32; 2]) {
    let node = stage.lab.node(1);
    let shown = status(node);
    assert_eq!(shown["features"]["mode"]["effective"], "DSR");
    assert_eq!(shown["features"]["dsrDispatch"]["effective"], dispatch);
    let text = node.culvert(&["status", "--verbose"]).unwrap();
    assert!(text.contains(&format!("DSR Dispatch Mode:     {dispatch}\n")), "{text}");
    let room = format!("requests up to {v4} (IPv4) and {v6} bytes (IPv6) fit into its MTU of 1500");
    assert!(text.contains(&room), "{text}");
}

#[test]
fn hybrid_hides_the_client_of_datagrams_alone() {
    let stage = raise("hybrid", "opt", "");
    let service = service("hybrid", 22);
    stage.serve(&service, &[&stage.far]);
    let mut failures = Vec::new();
    for v6 in [false, true] {
        for to in addresses(&service, v6) {
            for protocol in PROTOCOLS {
                let seen = if protocol == "tcp" { outside(v6) } else { node_ip(1, v6) };
                let outcome = stage.ask(&stage.lab.outside, protocol, to);
                let flaw = flaw(&outcome, to, seen);
                failures.extend(flaw.map(|flaw| format!("{protocol} to {to}: {flaw}")));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn an_annotation_chooses_for_one_service_and_takes_effect_on_new_connections() {
    let stage = raise("snat", "opt", "");
    let plain = service("plain", 23);
    let key = "service.culvert.io/forwarding-mode";
    let chosen = Service { annotations: vec![(key, "dsr")], ..service("chosen", 24) };
    for service in [&plain, &chosen] {
        stage.serve(service, &[&stage.far]);
    }
    let from = &stage.lab.outside;
    for v6 in [false, true] {
        for (service, seen) in [(&plain, node_ip(1, v6)), (&chosen, outside(v6))] {
            for (to, protocol) in addresses(service, v6).into_iter().zip(["tcp", "udp"]) {
                let outcome = stage.ask(from, protocol, to);
                assert_eq!(flaw(&outcome, to, seen), None, "{protocol} to {to}");
            }
        }
    }
    let [to, _] = addresses(&chosen, false);
    let talk = stage.talk(from, "tcp", to);
    let changed = Service { annotations: vec![(key, "snat")], ..chosen };
    stage.lab.publish(changed.name, &changed.objects(&[&stage.far])).unwrap();
    stage.ask_until(from, "tcp", to, |outcome| flaw(outcome, to, node_ip(1, false)).is_none());
    let report = talk.finish();
    assert_eq!((report.flaw(), &*report.last), (None, "far"));
}

#[test]
fn one_client_port_reaches_one_backend_through_two_addresses() {
    for dispatch in ["opt", "ipip"] {
        let stage = raise("dsr", dispatch, "");
        let services = [service("twin-a", 25), service("twin-b", 26)];
        for service in &services {
            stage.serve(service, &[&stage.far]);
        }
        let outside = &stage.lab.outside.netns;
        for v6 in [false, true] {
            let to: Vec<SocketAddr> = services.iter().map(|s| addresses(s, v6)[0]).collect();
            let any = SocketAddr::new(ip(if v6 { "::" } else { "0.0.0.0" }), 0);
            let socket = outside.run(|| std::net::UdpSocket::bind(any)).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
            // Each in turn, twice: the second flow must not have taken the first one's place.
            for to in to.iter().chain(&to) {
                socket.send_to(b"twin", to).unwrap();
                let mut buffer = [0; 256];
                let (length, from) = uninterrupted(|| socket.recv_from(&mut buffer))
                    .unwrap_or_else(|e| panic!("{to}: {e}"));
                assert_eq!(from, *to, "{dispatch}: the answer comes from whom was asked");
                assert!(buffer[..length].starts_with(b"far "));
            }
            // Connections at the same time; the port differs from the datagrams'.
            let port = 41000 + u16::from(v6);
            let mut open: Vec<_> =
                to.iter().map(|to| outside.run(|| super::dsr_path::connect(*to, port))).collect();
            for round in 0..2 {
                for (stream, to) in open.iter_mut().zip(&to) {
                    let answer = super::dsr_path::ask(stream, "twin").unwrap();
                    assert!(answer.starts_with("far "), "round {round} to {to}: {answer}");
                }
            }
        }
    }
}

#[test]
fn geneve_without_the_kernels_help_is_refused_or_named() {
    let stage = Stage::raise(1, "");
    let has = has_geneve(&stage);
    drop(stage);
    let config = format!("loadBalancer:\n  mode: dsr\n  dsrDispatch: geneve\n{}", keyed());
    let stage = Stage::raise(1, &format!("kubeProxyReplacement: partial\n{config}"));
    eventually("the agent says how requests go", || {
        let shown = status(stage.lab.node(1));
        let mode = shown["features"]["mode"]["effective"].as_str().unwrap().to_owned();
        let reason = shown["features"]["mode"]["reason"].as_str().unwrap_or_default().to_owned();
        if has { mode == "DSR" } else { mode == "SNAT" && reason.contains("Geneve") }
    });
}
