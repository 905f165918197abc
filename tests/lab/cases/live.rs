// SPDX-License-Identifier: Apache-2.0
//! Services that change while clients ask: what is written into one takes effect, and what is taken
//! out ends.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stage::{SHARED, eventually};
use crate::client::{Asker, Outcome, Question};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};

/// Nobody else has these addresses: who is not served gets no answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A client that stays, and one address of a service.
struct Client {
    asker: Asker,
    to: SocketAddr,
}

impl Client {
    /// A pod of each node at the cluster IP and a stranger at a NodePort, in both families.
    fn of(service: &Service) -> Vec<Self> {
        let stage = &*SHARED;
        let both = [false, true].into_iter().flat_map(|v6| {
            let cluster = SocketAddr::new(service.cluster_ip(v6), SERVICE_PORT);
            let node_port = SocketAddr::new(node_ip(2, v6), service.node_port.unwrap());
            let pods = stage.clients.iter().map(move |pod| (&pod.place, cluster));
            pods.chain([(&stage.lab.outside, node_port)])
        });
        both.map(|(place, to)| Self { asker: Asker::start(stage.program(), place), to }).collect()
    }

    /// What comes of so many new connections at once, each kind once.
    fn ask(&mut self, protocol: &'static str, count: usize) -> BTreeSet<String> {
        let timeout = if count > 1 { Duration::from_secs(5) } else { TIMEOUT };
        let question = Question { protocol, to: self.to, timeout };
        let outcomes = self.asker.ask(&vec![question; count]).into_iter();
        let names = outcomes.map(|outcome| match outcome {
            Outcome::Answer { name, .. } => name,
            Outcome::Error { error } => error,
        });
        names.collect()
    }
}

fn publish(service: &Service, edit: impl FnOnce(&mut [Value])) {
    let mut objects = service.objects(&[&SHARED.web, &SHARED.far]);
    edit(&mut objects);
    SHARED.lab.publish(service.name, &objects).unwrap();
}

const fn service(name: &'static str, number: u8) -> Service {
    Service {
        name,
        kind: "NodePort",
        number,
        node_port: Some(30000 + number as u16),
        external_ips: Vec::new(),
        ingress: Vec::new(),
        annotations: Vec::new(),
    }
}

/// Conformance: "should be able to switch session affinity".
#[test]
fn session_affinity_can_be_switched_and_its_time_shortened() {
    const SWITCHED: Service = service("switched", 66);
    let mut clients = Client::of(&SWITCHED);
    let affinity = |value: &str, seconds: u32| {
        publish(&SWITCHED, |objects| {
            objects[0]["spec"]["sessionAffinity"] = value.into();
            if value == "ClientIP" {
                let config = json!({ "clientIP": { "timeoutSeconds": seconds } });
                objects[0]["spec"]["sessionAffinityConfig"] = config;
            }
        });
    };
    // By chance one answers all 24 once in eight million times.
    let both = BTreeSet::from(["far".to_owned(), "web".to_owned()]);
    for round in ["new", "switched off"] {
        affinity("None", 0);
        for client in &mut clients {
            eventually(&format!("{round}: both serve {}", client.to), || {
                client.ask("tcp", 24) == both
            });
        }
        affinity("ClientIP", 10800);
        for client in &mut clients {
            eventually(&format!("one alone serves {}", client.to), || {
                client.ask("tcp", 24).len() == 1
            });
            let again = client.ask("tcp", 24);
            assert_eq!(again.len(), 1, "{}: {again:?}", client.to);
        }
    }

    affinity("ClientIP", 1);
    // Each time that it is over, the choice is free. Of many clients some soon choose otherwise.
    let mut had: Vec<_> = clients.iter_mut().map(|client| client.ask("tcp", 24)).collect();
    let mut moved = BTreeSet::new();
    let began = Instant::now();
    while moved.len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody moves but {moved:?}");
        std::thread::sleep(Duration::from_secs(3));
        for (client, had) in clients.iter_mut().zip(&mut had) {
            let now = client.ask("tcp", 1);
            if now != *had {
                moved.insert(client.to.port());
            }
            *had = now;
        }
    }
}

/// Conformance: "should implement service.kubernetes.io/headless" and "…/service-proxy-name".
#[test]
fn labels_that_give_a_service_to_others_can_be_set_and_taken_back() {
    const LABELLED: Service = service("labelled", 67);
    let mut clients = Client::of(&LABELLED);
    let mut until = |what: &str, is_so: fn(&BTreeSet<String>) -> bool| {
        for client in &mut clients {
            for protocol in ["tcp", "udp"] {
                eventually(&format!("{what}: {protocol} to {}", client.to), || {
                    is_so(&client.ask(protocol, 1))
                });
            }
        }
    };
    let is_served = |names: &BTreeSet<String>| names.iter().all(|n| n == "web" || n == "far");
    publish(&LABELLED, |_| ());
    until("it is new", is_served);
    for (label, value) in
        [("service.kubernetes.io/headless", ""), ("service.kubernetes.io/service-proxy-name", "x")]
    {
        // The slice controller copies a service's labels, later.
        for copied in [false, true] {
            publish(&LABELLED, |objects| {
                let labelled = if copied { objects.len() } else { 1 };
                for object in &mut objects[..labelled] {
                    object["metadata"]["labels"][label] = value.into();
                }
            });
            until(label, |names| !names.contains("web") && !names.contains("far"));
        }
        publish(&LABELLED, |_| ());
        until(&format!("without {label}"), is_served);
    }
}
