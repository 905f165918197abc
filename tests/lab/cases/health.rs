// SPDX-License-Identifier: Apache-2.0
//! What load balancers outside the cluster ask a node.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::stage::{Stage, eventually, ip};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::Service;
use crate::lab::place::Place;
use crate::lab::pod::Pod;

/// In the NodePort range, as the API server allots it.
const PORT: u16 = 32100;

/// Of the load balancer; no node owns them.
const INGRESS: [&str; 2] = ["192.0.2.90", "2001:db8:c0::90"];

#[test]
fn health_check_ports_outlive_agents_and_follow_the_endpoints() {
    let mut stage = Stage::raise(2, "");
    publish(&stage, &[&stage.web], Some(PORT));
    for v6 in [false, true] {
        stage.until(1, v6, "200", 1);
        stage.until(2, v6, "503", 0);
    }
    let answer = ask(&stage.lab.outside, at(1, false)).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        r#"{"service":{"namespace":"lab","name":"checked"},"localEndpoints":1,"serviceProxyHealthy":true}"#
    );
    for header in [
        "content-type: application/json",
        "x-content-type-options: nosniff",
        "x-load-balancing-endpoint-weight: 1",
    ] {
        assert!(head.to_lowercase().contains(header), "no `{header}` in {head}");
    }

    let probers: Vec<_> = [false, true]
        .map(|v6| Prober::start(&stage.lab.outside, at(1, v6)))
        .into_iter()
        .chain([Prober::start(&stage.lab.node(1).place, at(1, false))])
        .chain(INGRESS.map(|vip| Prober::start(&stage.lab.outside, SocketAddr::new(ip(vip), PORT))))
        .collect();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        let node = &mut stage.lab.nodes[0];
        let agent = node.agent.as_mut().unwrap();
        kill(Pid::from_raw(agent.id() as i32), signal).unwrap();
        agent.wait().unwrap();
        // Longer than a load balancer's probes are apart.
        sleep(Duration::from_millis(500));
        node.start_agent().unwrap();
        node.wait_ready().unwrap();
    }
    // Ten signs of life fall into this, and whatever a new agent may take back.
    sleep(Duration::from_millis(500));
    for prober in probers {
        let (asked, failed) = prober.finish();
        assert!(asked > 100, "{asked} probes");
        assert!(failed.is_empty(), "{} of {asked} probes failed: {:?}", failed.len(), failed[0]);
    }

    // A pod that ends gets no new connections, but where addresses are published whatever they are.
    for (ready, code, count) in [(false, "503", 0), (true, "200", 1), (false, "503", 0)] {
        let conditions = json!({ "ready": ready, "serving": true, "terminating": true });
        publish_as(&stage, &[&stage.web], Some(PORT), Some(conditions));
        for v6 in [false, true] {
            stage.until(1, v6, code, count);
        }
    }
    // The keeper of before listens to the agent of now.
    publish(&stage, &[&stage.far], Some(PORT));
    stage.until(1, false, "503", 0);
    stage.until(2, false, "200", 1);
    publish(&stage, &[&stage.far], None);
    let refused = |node| {
        let asked = ask(&stage.lab.outside, at(node, false));
        asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    eventually("the port is closed", || refused(1) && refused(2));
}

#[test]
fn a_keeper_that_dies_is_replaced_and_a_taken_port_is_named() {
    let mut stage = Stage::raise(1, "nodePort:\n  addresses: [192.168.50.0/24]\n");
    let holder = stage.lab.node(1).place.netns.run(|| {
        let all: SocketAddr = SocketAddr::new(ip("0.0.0.0"), PORT);
        std::net::TcpListener::bind(all).unwrap()
    });
    publish(&stage, &[&stage.web], Some(PORT));
    let named = || {
        let shown = super::stage::status(stage.lab.node(1));
        let problems = shown["problems"].as_array().unwrap().clone();
        problems.iter().any(|problem| {
            problem["subject"] == "Service lab/checked"
                && problem["message"].as_str().unwrap().contains("healthCheckNodePort")
        })
    };
    eventually("`status` names the port that is taken", named);
    drop(holder);
    stage.until(1, false, "200", 1);
    eventually("`status` forgets it", || !named());
    // `nodePort.addresses` holds for it too.
    assert!(ask(&stage.lab.outside, at(1, true)).is_err());

    let procs = std::fs::read_to_string(stage.lab.node(1).place.cgroup.join("cgroup.procs"));
    let keeper = procs.unwrap().lines().find_map(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("health-keeper").then(|| pid.parse().unwrap())
    });
    kill(Pid::from_raw(keeper.expect("a keeper runs")), Signal::SIGKILL).unwrap();
    stage.until(1, false, "200", 1);

    let agent = stage.lab.nodes[0].agent.as_mut().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    let told = stage.lab.node(1).culvert(&["cleanup"]).unwrap();
    assert!(told.contains("stopped the keeper"), "{told}");
    eventually("nobody answers", || ask(&stage.lab.outside, at(1, false)).is_err());
}

#[test]
fn a_load_balancer_that_probes_its_own_address_is_answered_by_the_node_it_asks() {
    let stage = Stage::raise(2, "");
    publish(&stage, &[&stage.web], Some(PORT));
    let outside = &stage.lab.outside;
    for (v6, address) in [false, true].into_iter().zip(INGRESS.map(ip)) {
        let probed = SocketAddr::new(address, PORT);
        for (node, code, count) in [(1, "200", 1), (2, "503", 0), (1, "200", 1)] {
            let via = node_ip(node, v6);
            outside.netns.ip(&format!("route replace {address} via {via}"));
            stage.until_at(outside, probed, code, count);
        }
        // The same inside: each node answers for itself.
        for (pod, (code, count)) in stage.clients.iter().zip([("200", 1), ("503", 0)]) {
            stage.until_at(&pod.place, probed, code, count);
        }
        let unknown = ask(outside, SocketAddr::new(address, PORT + 1)).unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::ConnectionRefused);
    }
    let list = stage.lab.node(1).culvert(&["service", "list"]).unwrap();
    assert!(list.contains("192.0.2.90:32100/TCP"), "{list}");
    let why = stage.lab.node(1).culvert(&["service", "explain", "192.0.2.90:32100"]).unwrap();
    assert!(why.contains("healthCheckNodePort of Service lab/checked"), "{why}");
    stage.lab.node(1).culvert(&["check"]).unwrap();

    publish(&stage, &[&stage.web], None);
    eventually("nobody is asked for the port", || {
        let list = stage.lab.node(1).culvert(&["service", "list"]).unwrap();
        !list.contains("32100")
    });
}

/// A service that is served only where its endpoints are.
fn publish(stage: &Stage, backends: &[&Pod], port: Option<u16>) {
    publish_as(stage, backends, port, None);
}

fn publish_as(stage: &Stage, backends: &[&Pod], port: Option<u16>, conditions: Option<Value>) {
    let service = Service {
        name: "checked",
        kind: "LoadBalancer",
        number: 90,
        node_port: Some(30090),
        ingress: INGRESS.map(ip).into(),
        ..Service::default()
    };
    let mut objects = service.objects(backends);
    if let Some(port) = port {
        objects[0]["spec"]["externalTrafficPolicy"] = "Local".into();
        objects[0]["spec"]["healthCheckNodePort"] = port.into();
    }
    if let Some(conditions) = conditions {
        for slice in &mut objects[1..] {
            slice["endpoints"][0]["conditions"] = conditions.clone();
        }
    }
    stage.lab.publish("checked", &objects).unwrap();
}

fn at(node: u8, v6: bool) -> SocketAddr {
    SocketAddr::new(node_ip(node, v6), PORT)
}

impl Stage {
    /// Waits until a node answers so.
    fn until(&self, node: u8, v6: bool, code: &str, endpoints: usize) {
        self.until_at(&self.lab.outside, at(node, v6), code, endpoints);
    }

    fn until_at(&self, from: &Place, to: SocketAddr, code: &str, endpoints: usize) {
        let count = format!("\"localEndpoints\":{endpoints},");
        eventually(&format!("{to} answers {code} with {endpoints} endpoints"), || {
            let answer = ask(from, to).unwrap_or_default();
            answer.split(' ').nth(1) == Some(code) && answer.contains(&count)
        });
    }
}

fn ask(from: &Place, to: SocketAddr) -> io::Result<String> {
    from.netns.run(|| probe(to))
}

/// One probe, as a load balancer makes it.
fn probe(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Probes every 10 ms.
struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Prober {
    fn start(from: &Place, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, netns): (_, PathBuf) = (Arc::clone(&stop), from.netns.path());
        let thread = spawn(move || {
            setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let (mut asked, mut failed) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                asked += 1;
                match probe(to) {
                    Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {}
                    Ok(answer) => failed.push(format!("probe {asked}: {answer}")),
                    Err(error) => failed.push(format!("probe {asked}: {error}")),
                }
                sleep(Duration::from_millis(10));
            }
            (asked, failed)
        });
        Self { stop, thread }
    }

    fn finish(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
