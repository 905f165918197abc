// SPDX-License-Identifier: Apache-2.0
//! Two nodes, an API server for each, and everything that happens to them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cluster::{self, SERVICES, Service};
use super::expect::{Visit, Who, server_name, visits};
use super::random::Random;
use crate::cases::api::{Api, Objects};
use crate::cases::stage::{Stage, eventually};
use crate::client::{Asker, Question, Talk};
use crate::lab::cluster::node_ip;
use crate::lab::manifest;
use crate::lab::pod::Pod;
use crate::support::apiserver::Resource;

mod check;
mod fresh;
mod scenery;

use check::Failure;
use scenery::{MARKS, add, mark, restart, steady};

const PODS_A_NODE: usize = 3;
/// Changes in a row that nobody waits for. Fewer than there are addresses for marks, so that none is
/// taken for another.
const RUSH: usize = 50;
/// Time between two changes of an outage that lasts.
const PACE: Duration = Duration::from_secs(5);
/// Between the ports of two askers, so that what a node sends for others from its address and what
/// its own asker sends do not meet at a pod: of datagrams nobody could tell them apart.
const ASKER_PORTS: usize = 5400;
/// For an answer that must not come.
const IMPATIENCE: Duration = Duration::from_millis(300);

pub struct World {
    stage: Stage,
    apis: Vec<Api>,
    pods: Vec<Pod>,
    names: Vec<String>,
    node_of: Vec<usize>,
    askers: Vec<(Who, Asker)>,
    visits: Vec<Visit>,
    random: Random,
    services: Vec<Service>,
    /// What each node has heard of.
    known: [Vec<Service>; 2],
    constant: Objects,
    marks: usize,
    /// How long an API server may be away, in [`PACE`]s.
    outage_max: usize,
    pub asked: usize,
    pub failures: Vec<Failure>,
}

impl World {
    /// For a run of this length.
    pub fn raise(random: Random, length: Duration) -> Self {
        let mut stage = Stage::raise(2, "");
        let mut apis: Vec<Api> = stage.lab.nodes.iter().map(Api::start).collect();
        let steady = steady();
        let mut constant: Objects = stage
            .lab
            .nodes
            .iter()
            .map(|node| ((Resource::Nodes, node.name.clone()), node.manifest()))
            .collect();
        add(&mut constant, &steady, &[&stage.web, &stage.far]);
        for (index, api) in apis.iter_mut().enumerate() {
            api.hold(&constant);
            restart(&mut stage.lab.nodes[index], Signal::SIGTERM, |_| ());
            stage.lab.nodes[index].wait_ready().unwrap();
        }

        let mut pods = Vec::new();
        for node in &stage.lab.nodes {
            for number in 0..PODS_A_NODE {
                let mut pod = node.add_pod(&format!("{}p{number}", node.name)).unwrap();
                for port in [8080, 8081] {
                    pod.serve_as(node, &server_name(&pod.name, port), port).unwrap();
                }
                pods.push(pod);
            }
        }
        let place = |who| match who {
            Who::Pod(node) => &stage.clients[node - 1].place,
            Who::Node(node) => &stage.lab.node(node).place,
            Who::Outside => &stage.lab.outside,
        };
        let all = [Who::Pod(1), Who::Pod(2), Who::Node(1), Who::Node(2), Who::Outside];
        let mut ports = (0..).step_by(ASKER_PORTS);
        let askers = all.map(|who| {
            let before = ports.next().unwrap();
            (who, Asker::start_behind(before, stage.program(), place(who)))
        });
        let none = vec![Service::default(); SERVICES];
        Self {
            apis,
            names: pods.iter().map(|pod| pod.name.clone()).collect(),
            node_of: (0..pods.len()).map(|pod| 1 + pod / PODS_A_NODE).collect(),
            pods,
            askers: askers.into(),
            visits: visits(),
            random,
            known: [none.clone(), none.clone()],
            services: none,
            constant,
            marks: 0,
            outage_max: (length.as_secs() / 10 / PACE.as_secs()) as usize,
            asked: 0,
            failures: Vec::new(),
            stage,
        }
    }

    /// Connections to a service that no step touches.
    pub fn steady_talks(&self) -> Vec<Talk> {
        let stage = &self.stage;
        let steady = steady();
        let mut talks = Vec::new();
        for v6 in [false, true] {
            let cluster = SocketAddr::new(steady.cluster_ip(v6), manifest::SERVICE_PORT);
            let node_port = SocketAddr::new(node_ip(2, v6), steady.node_port.unwrap());
            let balancer = SocketAddr::new(steady.ingress[usize::from(v6)], manifest::SERVICE_PORT);
            for protocol in ["tcp", "udp"] {
                talks.push(stage.talk(&stage.clients[0].place, protocol, cluster));
                talks.push(stage.talk(&stage.lab.outside, protocol, node_port));
            }
            talks.push(stage.talk(&stage.lab.node(2).place, "tcp-new", cluster));
            talks.push(stage.talk(&stage.lab.outside, "tcp-new", balancer));
        }
        talks
    }

    /// Lets something happen, waits until the agents know, and checks. Says what it was.
    pub fn step(&mut self) -> String {
        let node = self.random.below(2);
        match self.random.below(100) {
            0..55 => {
                let changed = self.change();
                self.publish(&[0, 1]);
                self.settle(&[0, 1]);
                self.check();
                changed
            }
            55..65 => {
                let nuisance = self.disturb(node);
                let changed = self.change();
                self.publish(&[0, 1]);
                self.settle(&[0, 1]);
                self.check();
                format!("{nuisance} n{}; {changed}", node + 1)
            }
            65..82 => {
                let signal = *self.random.pick(&[Signal::SIGTERM, Signal::SIGKILL]);
                self.restart(node, signal);
                let changed = self.change();
                self.publish(&[0, 1]);
                self.stage.lab.nodes[node].wait_ready().unwrap();
                self.settle(&[0, 1]);
                self.check();
                format!("{signal} to n{}; {changed}", node + 1)
            }
            82..90 => self.rush(),
            _ => self.outage(node),
        }
    }

    /// Much happens at once, as when a deployment of everything rolls.
    fn rush(&mut self) -> String {
        for _ in 0..RUSH {
            self.change();
            self.publish(&[0, 1]);
        }
        self.settle(&[0, 1]);
        self.check();
        format!("{RUSH} changes in a row")
    }

    /// One node's API server is away while things change.
    fn outage(&mut self, node: usize) -> String {
        // Few are long, but those have most of a long run.
        let lasts = if self.random.chance(30) { self.outage_max } else { 0 };
        let mut what = format!("no API server for n{} ({:?})", node + 1, PACE * lasts as u32);
        self.apis[node].go_away();
        let started = Instant::now();
        for number in 0..=lasts {
            let due = started + PACE * number as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            what += &format!("; {}", self.change());
            self.publish(&[0, 1]);
            self.settle(&[1 - node]);
            self.check();
        }
        let signal = *self.random.pick(&[None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)]);
        if let Some(signal) = signal {
            what += &format!("; {signal}");
            self.restart(node, signal);
            self.check();
        }
        if self.random.chance(50) {
            what += "; history is gone";
            self.apis[node].server.expire_history();
        }
        self.apis[node].come_back(&self.stage.lab.nodes[node]);
        self.stage.lab.nodes[node].wait_ready().unwrap();
        self.settle(&[0, 1]);
        self.check();
        what
    }

    fn disturb(&mut self, node: usize) -> &'static str {
        let server = &self.apis[node].server;
        match self.random.below(4) {
            0 => {
                server.drop_connections();
                "cut connections of"
            }
            1 => {
                server.end_watches();
                "ended watches of"
            }
            2 => {
                server.expire_history();
                server.drop_connections();
                "no history for"
            }
            _ => {
                server.bookmark();
                "bookmarks for"
            }
        }
    }

    fn restart(&mut self, node: usize, signal: Signal) {
        restart(&mut self.stage.lab.nodes[node], signal, |_| ());
    }

    fn change(&mut self) -> String {
        let mut changed = BTreeSet::new();
        for _ in 0..1 + self.random.below(4) {
            let service = self.random.below(SERVICES);
            self.services[service].change(&mut self.random, self.pods.len());
            changed.insert(service);
        }
        format!("changed {changed:?}")
    }

    /// Tells the API servers of `nodes`, with a new mark.
    fn publish(&mut self, nodes: &[usize]) {
        self.marks += 1;
        let mut objects = cluster::objects(&self.services, &self.pods);
        objects.extend(self.constant.clone());
        add(&mut objects, &mark(self.marks), &[self.marked()]);
        for node in nodes {
            self.apis[*node].hold(&objects);
        }
    }

    /// Another pod than that of the last mark that had this address.
    fn marked(&self) -> &Pod {
        [&self.stage.web, &self.stage.far][self.marks / MARKS % 2]
    }

    /// Waits until the agents of `nodes` serve the newest mark.
    fn settle(&mut self, nodes: &[usize]) {
        let to = SocketAddr::new(mark(self.marks).cluster_ip(false), manifest::SERVICE_PORT);
        let name = self.marked().name.clone();
        for node in nodes {
            let who = Who::Node(node + 1);
            let (_, asker) = self.askers.iter_mut().find(|(each, _)| *each == who).unwrap();
            // An address that is not known yet leads nowhere: nobody waits long for an answer.
            let question = Question { protocol: "tcp", to, timeout: IMPATIENCE };
            eventually("an agent serves the newest mark", || {
                asker.ask(&[question])[0].is_from(&name)
            });
            self.known[*node] = self.services.clone();
        }
    }
}
