// SPDX-License-Identifier: Apache-2.0
//! Maglev: programs choose from tables as src/lb says, and tables arrive through memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert::abi::{SERVICE_AFFINITY, SERVICE_MAGLEV, Service};
use culvert::agent::sync::ServiceSync;
use culvert::datapath::Datapath;
use culvert::k8s::manifests::parse;
use culvert::lb::maglev::{self, Member};
use culvert::lb::{Context, Selection};
use culvert::model::{Change, Kind};

use super::host::{NODE_PORT, node_port};
use crate::support::node::{FAMILIES, Family, Node, V4, ip};
use crate::support::objects::{Served, UDP};
use crate::support::packet::udp;
use crate::support::pins::PinRoot;

/// As in `support::pins`.
const SEED: maglev::Seed = *b"twelve bytes";

const OFFSET: u32 = 400;

fn backends(family: Family) -> Vec<String> {
    let base = family.remote.trim_end_matches('5');
    (1..=7).map(|n| family.at(&format!("{base}{n}"), 8080)).collect()
}

/// Gives `service` the table of its backends and returns it.
fn give_table(node: &Node, service: &Served<'_>) -> Vec<u16> {
    let members: Vec<Member> = service
        .targets()
        .iter()
        .map(|t| Member { addr: t.address.ip().into(), port: t.address.port(), weight: 1 })
        .collect();
    let table = maglev::table(&members, &SEED);
    node.objects.maps().maglev.write([(OFFSET, &*table)].into_iter()).unwrap();
    service.change(|value| {
        value.algorithm = SERVICE_MAGLEV;
        value.maglev_offset = OFFSET;
        value.maglev_size = table.len() as u32;
    });
    table
}

fn chosen(node: &Node, family: Family, client: &str, port: u16) -> String {
    let request = udp(&family.at(client, port), &family.at(family.node, NODE_PORT));
    node.wire_ok(&request).dst.to_string()
}

#[test]
fn programs_choose_what_the_table_says() {
    for family in FAMILIES {
        let node = Node::new();
        let backends = backends(family);
        let names: Vec<&str> = backends.iter().map(String::as_str).collect();
        let service = node.objects.serve(node_port(family, UDP), &names);
        let table = give_table(&node, &service);

        let mut seen = BTreeSet::new();
        for port in 1000..1200 {
            let hash = maglev::hash(&SEED, ip(family.client), Some(port), NODE_PORT, UDP);
            let number = table[maglev::place(hash, table.len() as u32) as usize];
            let backend = chosen(&node, family, family.client, port);
            assert_eq!(backend, backends[usize::from(number)], "port {port}");
            seen.insert(backend);
        }
        assert_eq!(seen.len(), 7);
    }
}

#[test]
fn with_affinity_the_clients_port_does_not_matter() {
    let node = Node::new();
    let backends = backends(V4);
    let names: Vec<&str> = backends.iter().map(String::as_str).collect();
    let service = node.objects.serve(node_port(V4, UDP), &names);
    let table = give_table(&node, &service);
    service.change(|value| value.flags |= SERVICE_AFFINITY);
    for client in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
        let hash = maglev::hash(&SEED, ip(client), None, NODE_PORT, UDP);
        let number = table[maglev::place(hash, table.len() as u32) as usize];
        for port in [1000, 2000, 3000] {
            assert_eq!(chosen(&node, V4, client, port), backends[usize::from(number)]);
        }
    }
}

#[test]
fn a_table_that_does_not_fit_its_service_leaves_the_choice_to_chance() {
    let node = Node::new();
    let backends = backends(V4);
    let names: Vec<&str> = backends.iter().map(String::as_str).collect();
    let service = node.objects.serve(node_port(V4, UDP), &names);
    give_table(&node, &service);
    let wrong = vec![700_u16; 2999];
    node.objects.maps().maglev.write([(OFFSET, &*wrong)].into_iter()).unwrap();
    let seen: BTreeSet<String> =
        (1000..1100).map(|port| chosen(&node, V4, V4.client, port)).collect();
    assert_eq!(seen.len(), 7);

    let beyond = node.objects.maps().maglev.max_entries() * 4;
    service.change(|value| value.maglev_offset = beyond);
    let seen: BTreeSet<String> =
        (2000..2100).map(|port| chosen(&node, V4, V4.client, port)).collect();
    assert_eq!(seen.len(), 7);
}

#[test]
fn tables_are_read_back_as_they_were_written_and_only_inside_the_map() {
    let node = Node::new();
    let maglev = &node.objects.maps().maglev;
    let slots = maglev.max_entries() * 4;
    let (first, last): (Vec<u16>, Vec<u16>) = ((1..=2999).collect(), (5..=8000).collect());
    let end = slots - last.len() as u32;
    maglev.write([(end, &*last), (4, &*first)].into_iter()).unwrap();
    assert_eq!(maglev.read(4, 2999).unwrap(), first);
    assert_eq!(maglev.read(end, last.len() as u32).unwrap(), last);
    assert_eq!(maglev.read(0, 4).unwrap(), [0; 4]);
    let error = maglev.write([(end + 4, &*last)].into_iter()).unwrap_err().to_string();
    assert!(error.contains("map `maglev` is full"), "{error}");
}

const YAML: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default, annotations: {service.cilium.io/lb-algorithm: maglev}}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], externalIPs: [192.0.2.1], ports: [{name: p, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: p, port: 80}]
endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}, {addresses: [10.1.0.3]}]
";

/// An agent that knows `YAML` and has written it.
fn agent(datapath: &Datapath) -> ServiceSync {
    let selection = Selection { seed: SEED, ..Selection::default() };
    let maps = Arc::clone(datapath.maps());
    let mut sync = ServiceSync::adopt(maps, Context::of("here"), selection, &[]).unwrap();
    let (mut objects, problems) = parse(YAML, "test");
    assert!(problems.is_empty(), "{problems:?}");
    let slices = objects.split_off(1);
    sync.change(Change::Listed(Kind::Service, objects));
    sync.change(Change::Listed(Kind::EndpointSlice, slices));
    let mut now = Instant::now();
    for _ in 0..100 {
        let Some(due) = sync.due(now) else { break };
        now = due.max(now + Duration::from_millis(1));
        sync.step(now);
    }
    assert!(sync.problems().is_empty(), "{:?}", sync.problems());
    sync
}

fn external(datapath: &Datapath) -> Service {
    let entries = datapath.maps().services.entries().unwrap();
    entries.into_iter().find(|(_, value)| value.outside.count > 0).unwrap().1
}

#[test]
fn an_agent_writes_tables_and_finds_them_again_in_a_map_of_another_size() {
    let root = PinRoot::new();
    let datapath = Datapath::open(root.options()).unwrap();
    agent(&datapath);
    let service = external(&datapath);
    let at = |n| Member { addr: ip(&format!("10.1.0.{n}")), port: 80, weight: 1 };
    let table = maglev::table(&[at(1), at(2), at(3)], &SEED);
    assert_eq!((service.algorithm, service.maglev_size), (SERVICE_MAGLEV, table.len() as u32));
    let maglev = &datapath.maps().maglev;
    assert_eq!(maglev.read(service.maglev_offset, service.maglev_size).unwrap(), table);

    for words in [50_000, 1000, 100] {
        let mut options = root.options();
        options.map_sizes.insert("maglev".to_owned(), words);
        let datapath = Datapath::open(options).unwrap();
        let maglev = &datapath.maps().maglev;
        assert_eq!(maglev.max_entries(), words);
        if words >= 750 {
            assert_eq!(maglev.read(service.maglev_offset, service.maglev_size).unwrap(), table);
            agent(&datapath);
            assert_eq!(external(&datapath), service, "nothing changed, nothing is written");
        }
    }
}
