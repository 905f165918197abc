// SPDX-License-Identifier: Apache-2.0
//! An agent that follows an API server, through the server's absence and its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use culvert::abi::{Addr, ServiceKey};
use culvert::datapath::Maps;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::stage::{Stage, eventually};
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::pod::Pod;
use crate::support::apiserver::{ApiServer, Resource};

const KEPT: Service = Service::plain("kept", 80);
const DOOMED: Service = Service::plain("doomed", 81);
const FRESH: Service = Service::plain("fresh", 82);
const LATER: Service = Service::plain("later", 83);

const TCP: u8 = 6;

/// Longer than replaced slots are kept, and than any delay of the agent's own.
const A_WHILE: Duration = Duration::from_secs(2);

#[test]
fn an_api_server_that_goes_and_comes_back_takes_nothing_with_it() {
    let mut world = World::raise();
    world.set(&KEPT, |stage| &stage.web);
    world.set(&DOOMED, |stage| &stage.web);
    world.restart_agent();
    world.stage.lab.nodes[0].wait_ready().unwrap();
    world.until_served_by(&KEPT, "web");
    world.until_served_by(&DOOMED, "web");
    eventually("all kinds are connected", || world.source()["connected"] == true);
    let full = "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"}";
    eventually("the first write of all is counted", || world.stage.lab.node(1).metric(full) == 1.0);

    let (client, node) = (&world.stage.clients[0].place, &world.stage.lab.node(1).place);
    let talks: Vec<_> = ["tcp", "tcp-new", "udp"]
        .into_iter()
        .flat_map(|protocol| {
            let to = address(&KEPT);
            [world.stage.talk(client, protocol, to), world.stage.talk(node, protocol, to)]
        })
        .collect();
    let before = world.written();

    world.away();
    eventually("`status` names the API server that is away", || {
        let source = world.source();
        source["connected"] == false && !source["problems"].as_array().unwrap().is_empty()
    });
    std::thread::sleep(A_WHILE);
    assert_eq!(world.health(), [200; 3], "while the API server is away");
    assert_eq!(world.written(), before, "while the API server is away");

    world.restart_agent();
    eventually("the new agent says that nobody answers", || {
        world.try_source().is_some_and(|source| {
            source["connected"] == false && !source["problems"].as_array().unwrap().is_empty()
        })
    });
    std::thread::sleep(A_WHILE);
    // Alive and serving, but ready only when it has heard what there is.
    assert_eq!(world.health(), [200, 200, 503], "after a restart without an API server");
    assert_eq!(world.written(), before, "after a restart without an API server");
    let flaws: Vec<_> = talks.into_iter().filter_map(|talk| talk.finish().flaw()).collect();
    assert!(flaws.is_empty(), "{}", flaws.join("\n"));
    world.until_served_by(&DOOMED, "web");

    // What happened meanwhile is learnt from a list.
    world.delete(&DOOMED);
    world.set(&KEPT, |stage| &stage.far);
    world.set(&FRESH, |stage| &stage.far);
    world.back();
    world.stage.lab.nodes[0].wait_ready().unwrap();
    world.until_served_by(&KEPT, "far");
    world.until_served_by(&FRESH, "far");
    eventually("what vanished meanwhile is removed", || !world.has(&DOOMED));
    // Each kind tries again in its own time.
    eventually("`status` has nothing more to say of the API server", || {
        let source = world.source();
        source["connected"] == true && source["problems"].as_array().unwrap().is_empty()
    });

    // A watch that cannot be resumed (410) is replaced by a list too, without a restart.
    world.away();
    world.delete(&FRESH);
    world.set(&LATER, |stage| &stage.web);
    world.api.expire_history();
    world.back();
    world.until_served_by(&LATER, "web");
    eventually("what vanished with the history is removed", || !world.has(&FRESH));
    world.until_served_by(&KEPT, "far");

    // A node about to be removed is alive, serves, and asks load balancers for no more.
    let node = world.stage.lab.node(1).manifest();
    let mut leaving = node.clone();
    leaving["spec"]["taints"] =
        serde_json::json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    world.api.set(leaving);
    eventually("a tainted node is not eligible", || world.health() == [503, 200, 200]);
    world.api.set(node.clone());
    eventually("an untainted one is", || world.health() == [200; 3]);
    let mut deleted = node;
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    world.api.set(deleted);
    eventually("a node being deleted is not", || world.health() == [503, 200, 200]);
}

/// A stage of one node whose agent is told of an API server there.
pub struct World {
    pub stage: Stage,
    pub api: ApiServer,
    runtime: Runtime,
}

impl World {
    pub fn raise() -> Self {
        let stage = Stage::raise(1, "");
        let runtime = Runtime::new().unwrap();
        let node = stage.lab.node(1);
        let api = node.place.netns.run(|| runtime.block_on(ApiServer::start()));
        api.set(node.manifest());
        node.follow(&api.url()).unwrap();
        Self { stage, api, runtime }
    }

    pub fn set(&self, service: &Service, pod: impl Fn(&Stage) -> &Pod) {
        for object in service.objects(&[pod(&self.stage)]) {
            self.api.set(object);
        }
    }

    fn delete(&self, service: &Service) {
        self.api.delete(Resource::Services, "lab", service.name);
        for family in ["ipv4", "ipv6"] {
            let name = format!("{}-{family}", service.name);
            self.api.delete(Resource::EndpointSlices, "lab", &name);
        }
    }

    fn away(&mut self) {
        self.runtime.block_on(self.api.go_away());
    }

    fn back(&mut self) {
        let (runtime, api) = (&self.runtime, &mut self.api);
        self.stage.lab.node(1).place.netns.run(|| runtime.block_on(api.come_back()));
    }

    pub fn restart_agent(&mut self) {
        let node = &mut self.stage.lab.nodes[0];
        let agent = node.agent.as_mut().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
        node.start_agent().unwrap();
    }

    pub fn until_served_by(&self, service: &Service, pod: &str) {
        for from in [&self.stage.clients[0].place, &self.stage.lab.node(1).place] {
            self.stage.ask_until(from, "tcp", address(service), |outcome| outcome.is_from(pod));
        }
    }

    /// What `status` says of the source; None: no agent answers.
    fn try_source(&self) -> Option<Value> {
        let node = self.stage.lab.node(1);
        // An agent that is not ready answers too.
        let text = node.shown(&["status", "-o", "json"]).unwrap();
        let status: Value = serde_json::from_str(&text).ok()?;
        status["sources"].get(0).cloned()
    }

    fn source(&self) -> Value {
        self.try_source().unwrap()
    }

    /// Status codes of `/healthz`, `/livez` and `/readyz`.
    fn health(&self) -> [u16; 3] {
        ["healthz", "livez", "readyz"].map(|path| {
            self.stage.lab.node(1).place.netns.run(|| {
                let mut stream = TcpStream::connect("127.0.0.1:1025").unwrap();
                write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer.split(' ').nth(1).unwrap().parse().unwrap()
            })
        })
    }

    pub fn maps(&self) -> Maps {
        Maps::open_pinned(&self.stage.bpf_root(1)).unwrap()
    }

    /// All frontends and backends in the maps.
    pub fn written(&self) -> String {
        let maps = self.maps();
        let mut services = maps.services.entries().unwrap();
        let mut backends = maps.backends.entries().unwrap();
        services.sort_by_key(|(key, _)| *key);
        backends.sort_by_key(|(key, _)| *key);
        format!("{services:?}\n{backends:?}")
    }

    fn has(&self, service: &Service) -> bool {
        let vip = Addr::from(service.cluster_ip(false));
        let key = ServiceKey::new(vip, SERVICE_PORT, TCP);
        self.maps().services.get(&key).unwrap().is_some()
    }
}

fn address(service: &Service) -> SocketAddr {
    SocketAddr::new(service.cluster_ip(false), SERVICE_PORT)
}
