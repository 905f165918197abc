// SPDX-License-Identifier: Apache-2.0
//! What the agent itself costs with 10,000 services of ten endpoints from an API server: memory, the
//! time of a full sync, and CPU of one change.
//!
//! Prints `name<TAB>value<TAB>unit` lines. Needs root. The agent is the real program, on a node of
//! the lab. `BENCH_CHURN=N` sets the number of changes after which its memory is read again, and after
//! a quarter of which; a day of a large cluster is some 1,000,000.

#![allow(clippy::unwrap_used)] // Where a call fails there is nothing to measure.

#[path = "../tests/lab/lib.rs"]
#[expect(dead_code, reason = "shared with the lab tests, of which this needs a part")]
mod lab;
#[path = "../tests/support"]
mod support {
    #[expect(dead_code, reason = "shared with the source tests, of which this needs a part")]
    pub mod apiserver;
}

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::apiserver::ApiServer;
use tokio::runtime::Runtime;

use lab::cluster::{Lab, Options, Programs};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;
/// Single changes whose CPU time is taken, and the time between two.
const CHANGES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(150);
/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let bench = Bench::raise();
    until("the first sync", || bench.metric(FULL_COUNT) >= 1.0);
    println!("agent_sync_{SERVICES}_ms\t{:.0}\tms", bench.metric(FULL_SUM) * 1000.0);
    // Until what the first list left behind is given back, and the first reports are made.
    sleep(Duration::from_secs(6));
    println!("agent_rss_{SERVICES}_kib\t{}\tKiB", bench.rss_kib());

    let idle = bench.cpu_over(|| sleep(PAUSE * CHANGES));
    let mut sent = 0;
    let busy = bench.cpu_over(|| {
        for _ in 0..CHANGES {
            sent += 1;
            bench.change(sent);
            sleep(PAUSE);
        }
    });
    bench.settle(sent);
    let each = busy.saturating_sub(idle) / CHANGES;
    println!("agent_change_cpu_us\t{}\tus", each.as_micros());

    let started = Instant::now();
    for number in 1..=10_000 {
        sent += 1;
        bench.change(sent);
        let due = started + Duration::from_millis(number);
        sleep(due.saturating_duration_since(Instant::now()));
    }
    println!("agent_behind_1000_s\t{}\tn", sent - bench.taken());
    bench.settle(sent);

    let churn = std::env::var("BENCH_CHURN").map_or(50_000, |text| text.parse().unwrap());
    for (part, name) in [(churn / 4, "quarter"), (churn - churn / 4, "churned")] {
        for number in 1..=part {
            sent += 1;
            bench.change(sent);
            // In waves: the server keeps what a watch has not seen.
            if number % 2000 == 0 {
                bench.settle(sent);
            }
        }
        bench.settle(sent);
        sleep(Duration::from_secs(6));
        println!("agent_rss_{SERVICES}_{name}_kib\t{}\tKiB", bench.rss_kib());
    }
}

const FULL_COUNT: &str =
    "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}";
const FULL_SUM: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"}";
const TAKEN: &str = "kubeproxy_sync_proxy_rules_endpoint_changes_total{ip_family=\"IPv4\"}";
const PENDING: &str = "culvert_sync_pending";

struct Bench {
    api: ApiServer,
    _runtime: Runtime,
    lab: Lab,
}

impl Bench {
    /// A node whose agent is about to learn of all services.
    fn raise() -> Self {
        let programs = Programs {
            culvert: env!("CARGO_BIN_EXE_culvert").into(),
            culvert_cni: env!("CARGO_BIN_EXE_culvert-cni").into(),
            culvert_lab: env!("CARGO_BIN_EXE_culvert-lab").into(),
        };
        let mut lab = Lab::raise(Options { programs, nodes: 1, config: String::new() }).unwrap();
        let runtime = Runtime::new().unwrap();
        let node = &mut lab.nodes[0];
        let api = node.place.netns.run(|| runtime.block_on(ApiServer::start()));
        api.set(node.manifest());
        for number in 0..SERVICES {
            api.set(service(number));
            api.set(slice(number, 0));
        }
        node.follow(&api.url()).unwrap();
        let agent = node.agent.as_mut().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
        node.start_agent().unwrap();
        Self { api, _runtime: runtime, lab }
    }

    /// Gives one service another endpoint for one of its own.
    fn change(&self, edition: u32) {
        self.api.set(slice(edition.wrapping_mul(7919) % SERVICES, edition));
    }

    fn settle(&self, sent: u32) {
        until("every change is taken", || self.taken() == sent);
        until("nothing waits", || self.metric(PENDING) == 0.0);
        self.api.forget_history();
    }

    /// Changes of slices that the agent has taken since it listed them.
    fn taken(&self) -> u32 {
        self.metric(TAKEN) as u32 - SERVICES
    }

    fn pid(&self) -> u32 {
        self.lab.node(1).agent.as_ref().unwrap().id()
    }

    fn rss_kib(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// CPU time of all the agent's threads while `f` runs.
    fn cpu_over(&self, f: impl FnOnce()) -> Duration {
        let before = self.cpu();
        f();
        self.cpu().saturating_sub(before)
    }

    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let spent = tasks.map(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(spent.sum())
    }

    fn metric(&self, name: &str) -> f64 {
        self.lab.node(1).metric(name)
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20));
    }
}

fn service(number: u32) -> Value {
    let ip = format!("10.100.{}.{}", number / 250, number % 250 + 1);
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": format!("s{number}"), "namespace": "bench"},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip],
            "ports": [{"name": "p", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    })
}

/// The first endpoint is the `edition`'s own.
fn slice(number: u32, edition: u32) -> Value {
    let endpoint = |index: u32| {
        let [_, a, b, c] = (number * ENDPOINTS + index).to_be_bytes();
        let [_, d, e, f] = edition.to_be_bytes();
        let own = index == 0 && edition > 0;
        let address = if own { format!("12.{d}.{e}.{f}") } else { format!("11.{a}.{b}.{c}") };
        json!({
            "addresses": [address],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", (number * ENDPOINTS + index) % 100),
            "targetRef": {"kind": "Pod", "namespace": "bench", "name": format!("p-{number}-{index}")},
            "zone": format!("zone-{}", index % 3),
        })
    };
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("s{number}-1"), "namespace": "bench",
            "labels": {"kubernetes.io/service-name": format!("s{number}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    })
}
