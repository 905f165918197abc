// SPDX-License-Identifier: Apache-2.0
//! Traffic policies against states of endpoints, from every kind of client, on wires.
//!
//! `web` is on the first node and `far` on the second. A service has one external and one internal
//! policy; all combinations are published at once.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Stage, ip};
use crate::client::{Asker, Outcome, Question};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::pod::Pod;

const CLUSTER: &str = "Cluster";
const LOCAL: &str = "Local";

/// Who answers. The rows are KEP-1669, KEP-2086 and what kube-proxy makes of them.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    //   endpoints      policy   from the wire to   from inside      internal policy:
    //                           n1       n2        n1      n2       inside n1  inside n2
    row("ready",       CLUSTER, ["web",  "web"],   ["web", "web"],  ["web",    "web"]),
    row("ready",       LOCAL,   ["web",  NOBODY],  ["web", "web"],  ["web",    NOBODY]),
    row("terminating", CLUSTER, ["web",  "web"],   ["web", "web"],  ["web",    "web"]),
    row("terminating", LOCAL,   ["web",  NOBODY],  ["web", "web"],  ["web",    NOBODY]),
    row("none",        CLUSTER, [NO,     NO],      [NO,    NO],     [NO,       NO]),
    row("none",        LOCAL,   [NO,     NO],      [NO,    NO],     [NO,       NO]),
    // `web` terminates, `far` is ready: each list is judged for itself.
    row("divided",     CLUSTER, ["far",  "far"],   ["far", "far"],  ["far",    "far"]),
    row("divided",     LOCAL,   ["web",  "far"],   ["far", "far"],  ["web",    "far"]),
];
/// Refused at once.
const NO: &str = "refused";
/// Dropped; a socket of the node that drops is told that nobody is there.
const NOBODY: &str = "nobody";

struct Row {
    endpoints: &'static str,
    policy: &'static str,
    wire: [&'static str; 2],
    inside: [&'static str; 2],
    internal: [&'static str; 2],
}

const fn row(
    endpoints: &'static str,
    policy: &'static str,
    wire: [&'static str; 2],
    inside: [&'static str; 2],
    internal: [&'static str; 2],
) -> Row {
    Row { endpoints, policy, wire, inside, internal }
}

#[test]
fn policies_choose_among_endpoints_as_the_table_says() {
    fails_nowhere("");
}

#[test]
fn policies_choose_the_same_without_the_socket_hook() {
    fails_nowhere("socketLB:\n  hostNamespaceOnly: true\n");
}

fn fails_nowhere(config: &str) {
    let stage = Stage::raise(2, config);
    let services: Vec<(Service, &Row, &Row)> = TABLE
        .iter()
        .flat_map(|outer| {
            let same = TABLE.iter().filter(|inner| inner.endpoints == outer.endpoints);
            same.map(move |inner| (outer, inner))
        })
        .zip(100..)
        .map(|((outer, inner), number)| (service(number, outer, inner), outer, inner))
        .collect();
    let published = services.iter().flat_map(|(s, outer, inner)| objects(&stage, s, outer, inner));
    // Planned last of what one file brings: who serves it serves all.
    let mark = Service { name: "zz-mark", number: 99, ..Service::default() };
    let published: Vec<Value> = published.chain(mark.objects(&[&stage.web])).collect();
    stage.lab.publish("matrix", &published).unwrap();
    for node in &stage.lab.nodes {
        let to = SocketAddr::new(mark.cluster_ip(false), SERVICE_PORT);
        stage.ask_until(&node.place, "tcp", to, |outcome| outcome.is_from("web"));
    }

    let mut failures = Vec::new();
    let mut cells = 0;
    for (who, place, node) in [
        ("outside", &stage.lab.outside, None),
        ("n1", &stage.lab.node(1).place, Some(0)),
        ("n2", &stage.lab.node(2).place, Some(1)),
        ("a pod on n1", &stage.clients[0].place, Some(0)),
        ("a pod on n2", &stage.clients[1].place, Some(1)),
    ] {
        let visits: Vec<Visit> =
            services.iter().flat_map(|(s, outer, inner)| visits(s, outer, inner, node)).collect();
        let mut asker = Asker::start(stage.program(), place);
        let questions: Vec<Question> = visits.iter().map(Visit::question).collect();
        cells += visits.len();
        for (visit, outcome) in visits.iter().zip(asker.ask(&questions)) {
            if !visit.is_met_by(&outcome) {
                let Visit { what, to, protocol, expected, .. } = visit;
                failures.push(format!(
                    "{what}: {protocol} to {to} from {who}: {outcome:?}, not `{expected}`"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cells}:\n{}", failures.len(), failures.join("\n"));
}

struct Visit {
    what: String,
    to: SocketAddr,
    protocol: &'static str,
    expected: &'static str,
    /// The client's own node decides, and not a packet that travelled.
    at_home: bool,
}

impl Visit {
    fn question(&self) -> Question {
        // What must not come is not waited for as long as what must.
        let timeout = Duration::from_millis(if self.expected == NOBODY { 800 } else { 3000 });
        Question { protocol: self.protocol, to: self.to, timeout }
    }

    fn is_met_by(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Answer { name, .. } => name == self.expected,
            Outcome::Error { error } if self.expected == NOBODY => {
                error == "timeout" || self.at_home && error == "unreachable"
            }
            Outcome::Error { error } => error == self.expected,
        }
    }
}

/// Every way of a client on `node`, or outside, to ask the service.
fn visits(service: &Service, outer: &Row, inner: &Row, node: Option<usize>) -> Vec<Visit> {
    let mut visits = Vec::new();
    for (v6, protocol) in
        [false, true].into_iter().flat_map(|v6| ["tcp", "udp"].map(move |protocol| (v6, protocol)))
    {
        let mut add = |frontend: &str, to: SocketAddr, expected, at_home| {
            let what = format!(
                "{frontend}, endpoints {}, external {}, internal {}",
                outer.endpoints, outer.policy, inner.policy
            );
            visits.push(Visit { what, to, protocol, expected, at_home });
        };
        for at in [0, 1] {
            let to = SocketAddr::new(node_ip(at as u8 + 1, v6), service.node_port.unwrap());
            let own = node == Some(at);
            let expected = if own { outer.inside[at] } else { outer.wire[at] };
            add("NodePort", to, expected, own);
        }
        // From outside they lead to the first node.
        let balancer = SocketAddr::new(service.ingress[usize::from(v6)], SERVICE_PORT);
        let expected = node.map_or(outer.wire[0], |at| outer.inside[at]);
        add("LoadBalancer", balancer, expected, node.is_some());
        if let Some(at) = node {
            let cluster = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
            add("ClusterIP", cluster, inner.internal[at], true);
        }
    }
    visits
}

fn service(number: u8, outer: &Row, inner: &Row) -> Service {
    let name = format!("{}-{}-{}", outer.endpoints, outer.policy, inner.policy).to_lowercase();
    Service {
        name: name.leak(),
        kind: "LoadBalancer",
        number,
        node_port: Some(30000 + u16::from(number)),
        ingress: vec![ip(&format!("192.0.2.{number}")), ip(&format!("2001:db8:c0::{number}"))],
        ..Service::default()
    }
}

fn objects(stage: &Stage, service: &Service, outer: &Row, inner: &Row) -> Vec<Value> {
    let backends: &[&Pod] = match outer.endpoints {
        "none" => &[],
        "divided" => &[&stage.web, &stage.far],
        _ => &[&stage.web],
    };
    let mut objects = service.objects(backends);
    objects[0]["spec"]["externalTrafficPolicy"] = outer.policy.into();
    objects[0]["spec"]["internalTrafficPolicy"] = inner.policy.into();
    if matches!(outer.endpoints, "terminating" | "divided") {
        for slice in &mut objects[1..] {
            slice["endpoints"][0]["conditions"] =
                json!({ "ready": false, "serving": true, "terminating": true });
        }
    }
    objects
}
