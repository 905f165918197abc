// SPDX-License-Identifier: Apache-2.0
//! Endpoints that change by the thousand: the agent keeps up, forgets nothing and does not grow.
//!
//! `CULVERT_CHURN=10000,500000` measures with that many services and changes; a release build has
//! to be at the place of the debug one for figures that mean something.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::kube::World;
use super::stage::{eventually, status};

const ENDPOINTS: u32 = 10;
/// Changes between two looks.
const WAVE: u32 = 2000;

#[test]
fn a_thousand_changes_a_second_are_carried_and_memory_does_not_grow() {
    let sizes = std::env::var("CULVERT_CHURN").unwrap_or_else(|_| "300,14000".to_owned());
    let (services, changes) = sizes.split_once(',').unwrap();
    let mut churn = Churn::raise(services.parse().unwrap());
    println!("{services} services: {} kB", churn.memory());

    // At a thousand a second, for five seconds.
    let started = Instant::now();
    let mut behind = Vec::new();
    for number in 1..=5000 {
        churn.change();
        let due = started + Duration::from_millis(number);
        sleep(due.saturating_duration_since(Instant::now()));
        if number % 1000 == 0 {
            behind.push(churn.sent - churn.taken());
        }
    }
    println!("not taken yet after each second: {behind:?}; sent in {:?}", started.elapsed());
    // What waits is what is on its way. Had the queue grown all the time, most would be in it.
    assert!(behind[4] < churn.sent / 2, "the queue grows: {behind:?}");
    churn.settle();

    let changes: u32 = changes.parse().unwrap();
    let waves = (changes / WAVE).max(4);
    let mut memory = Vec::new();
    for wave in 1..=waves {
        (0..WAVE).for_each(|_| churn.change());
        churn.settle();
        memory.push(churn.memory());
        if wave % 25 == 0 {
            println!("after {} changes: {} kB", churn.sent, churn.memory());
        }
    }
    println!("kB after each wave of {WAVE}: {memory:?}");
    // The first third fills caches and the heap's gaps.
    let (warm, rest) = memory.split_at(memory.len() / 3);
    let (warm, last) = (*warm.iter().max().unwrap(), *rest.last().unwrap());
    assert!(last <= warm + warm / 10 + 2048, "{warm} kB grew to {last} kB: {memory:?}");
}

struct Churn {
    world: World,
    services: u32,
    /// Changes so far.
    sent: u64,
    /// Slice changes that the agent had taken before.
    before: u64,
    /// Address and slice of the last change.
    last: String,
}

impl Churn {
    fn raise(services: u32) -> Self {
        let mut world = World::raise();
        for number in 0..services {
            world.api.set(service(number));
            world.api.set(slice(number, 0));
        }
        world.restart_agent();
        world.stage.lab.nodes[0].wait_ready().unwrap();
        let churn = Self { world, services, sent: 0, before: 0, last: String::new() };
        eventually("everything is written", || {
            churn.sync()["services"] == services && churn.sync()["pending"] == 0
        });
        let before = churn.taken();
        churn.world.api.forget_history();
        Self { before, ..churn }
    }

    /// Gives one service another endpoint for one of its own.
    fn change(&mut self) {
        self.sent += 1;
        let number = self.sent as u32;
        let slice = slice(number % self.services, number);
        self.last = slice["endpoints"][0]["addresses"][0].as_str().unwrap().to_owned();
        self.world.api.set(slice);
    }

    /// Slice changes that the agent has taken since the start.
    fn taken(&self) -> u64 {
        let name = "kubeproxy_sync_proxy_rules_endpoint_changes_total{ip_family=\"IPv4\"} ";
        let page = self.get("metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.parse::<u64>().unwrap()) - self.before
    }

    /// Waits until the agent has taken all changes and written the last.
    fn settle(&self) {
        eventually("every change is taken", || self.taken() == self.sent);
        eventually("nothing waits", || self.sync()["pending"] == 0);
        // The status may be a moment older than the count.
        eventually("the last change is written", || {
            let backends = self.world.maps().backends.entries().unwrap();
            backends.iter().any(|(_, backend)| backend.addr.to_string() == self.last)
        });
        self.world.api.forget_history();
    }

    fn sync(&self) -> Value {
        status(self.world.stage.lab.node(1))["sync"].clone()
    }

    /// Resident memory of the agent in kB.
    fn memory(&self) -> u64 {
        let pid = self.world.stage.lab.node(1).agent.as_ref().unwrap().id();
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.world.stage.lab.node(1).place.netns.run(|| {
            let mut stream = TcpStream::connect("127.0.0.1:1025").unwrap();
            write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    }
}

fn service(number: u32) -> Value {
    let ip = format!("10.100.{}.{}", number / 250, number % 250 + 1);
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": format!("s{number}"), "namespace": "churn"},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip],
            "ports": [{"name": "p", "port": 80, "protocol": "TCP"}],
        },
    })
}

/// The first endpoint is the `edition`'s own.
fn slice(number: u32, edition: u32) -> Value {
    let address = |index: u32| {
        let [_, a, b, c] = (number * ENDPOINTS + index).to_be_bytes();
        let [_, d, e, f] = edition.to_be_bytes();
        if index == 0 && edition > 0 {
            format!("12.{d}.{e}.{f}")
        } else {
            format!("11.{a}.{b}.{c}")
        }
    };
    let endpoint = |index| {
        json!({
            "addresses": [address(index)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", index * 7 + number % 100),
            "targetRef": {"kind": "Pod", "namespace": "churn", "name": format!("p-{number}-{index}")},
            "zone": "zone-a",
        })
    };
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("s{number}-1"), "namespace": "churn",
            "labels": {"kubernetes.io/service-name": format!("s{number}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    })
}
