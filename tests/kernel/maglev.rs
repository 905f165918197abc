// SPDX-License-Identifier: Apache-2.0
//! Maglev: programs choose from tables as src/lb says, and tables arrive through memory.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert::abi::{SERVICE_AFFINITY, SERVICE_MAGLEV, SERVICE_RANDOM, Service, ServiceKey, ticks};
use culvert::agent::sync::ServiceSync;
use culvert::datapath::Datapath;
use culvert::k8s::manifests::parse;
use culvert::lb::maglev::{self, Member};
use culvert::lb::{Context, Selection};
use culvert::model::{Change, Kind, ObjectKey, ObjectName};
use libbpf_rs::MapHandle;

use super::host::{NODE_PORT, node_port};
use super::xdp::{XDP_TX, driver};
use crate::support::node::{Family, Node, V4, V6, ip};
use crate::support::objects::{Served, TCP, UDP};
use crate::support::packet::{Packet, udp};
use crate::support::pins::PinRoot;

/// As in `support::pins`.
const SEED: maglev::Seed = *b"twelve bytes";

const OFFSET: u32 = 400;

fn backends(family: Family, count: u32) -> Vec<String> {
    let base = family.remote.trim_end_matches('5');
    (1..=count).map(|n| family.at(&format!("{base}{n}"), 8080)).collect()
}

fn serve<'n>(node: &'n Node, family: Family, backends: &[String]) -> Served<'n> {
    let names: Vec<&str> = backends.iter().map(String::as_str).collect();
    node.objects.serve(node_port(family, UDP), &names)
}

/// What `table` gives to this client.
fn expected<'b>(
    table: &[u16],
    backends: &'b [String],
    client: &str,
    port: Option<u16>,
) -> &'b String {
    let hash = maglev::hash(&SEED, ip(client), port, NODE_PORT, UDP);
    let place = maglev::place(hash, table.len() as u32);
    &backends[usize::from(table[place as usize])]
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
fn tc_and_xdp_of_two_nodes_choose_what_the_table_says() {
    for (family, count) in [(V4, 7), (V6, 7), (V4, 40)] {
        let [one, two] = [(), ()].map(|()| Node::new());
        let backends = backends(family, count);
        // Slots are a node's own.
        let reversed: Vec<String> = backends.iter().rev().cloned().collect();
        let here = serve(&one, family, &backends);
        let there = serve(&two, family, &reversed);
        let (table, other) = (give_table(&one, &here), give_table(&two, &there));
        assert_eq!(table.len() > 2999, count > 30);
        assert_ne!(table, other);

        let mut seen = BTreeSet::new();
        for port in 1000..1200 {
            let backend = expected(&table, &backends, family.client, Some(port));
            assert_eq!(backend, expected(&other, &reversed, family.client, Some(port)));
            assert_eq!(chosen(&one, family, family.client, port), *backend, "tc, port {port}");

            let request = udp(&family.at(family.client, port), &family.at(family.node, NODE_PORT));
            let (action, frame) = driver(&two, &request.bytes());
            assert_eq!(action, XDP_TX, "{:?}", two.outcomes());
            assert_eq!(Packet::parse(&frame).dst.to_string(), *backend, "XDP, port {port}");
            seen.insert(backend);
        }
        assert!(seen.len() > count as usize * 3 / 4, "{} of {count}", seen.len());
    }
}

#[test]
fn with_affinity_the_clients_port_does_not_matter_and_what_it_had_goes_first() {
    let node = Node::new();
    let backends = backends(V4, 7);
    let service = serve(&node, V4, &backends);
    let table = give_table(&node, &service);
    service.change(|value| {
        value.flags |= SERVICE_AFFINITY;
        value.affinity_timeout = ticks(Duration::from_secs(600));
    });
    for client in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
        for port in [1000, 2000, 3000] {
            let backend = expected(&table, &backends, client, None);
            assert_eq!(chosen(&node, V4, client, port), *backend);
        }
    }
    let other = vec![6_u16; table.len()];
    node.objects.maps().maglev.write([(OFFSET, &*other)].into_iter()).unwrap();
    let kept = expected(&table, &backends, "192.0.2.7", None);
    assert_ne!(*kept, backends[6]);
    assert_eq!(chosen(&node, V4, "192.0.2.7", 4000), *kept);
    let request = udp(&V4.at("192.0.2.7", 5000), &V4.at(V4.node, NODE_PORT));
    assert_eq!(Packet::parse(&driver(&node, &request.bytes()).1).dst.to_string(), *kept);
    assert_eq!(chosen(&node, V4, "192.0.2.10", 1000), backends[6], "a new client");
}

#[test]
fn clients_inside_choose_by_chance() {
    let node = Node::new();
    let backends = backends(V4, 7);
    let service = serve(&node, V4, &backends);
    let table = give_table(&node, &service);
    let one = vec![3_u16; table.len()];
    node.objects.maps().maglev.write([(OFFSET, &*one)].into_iter()).unwrap();
    let ask = |port| udp(&V4.at(V4.pod, port), &V4.at(V4.node, NODE_PORT));
    let seen: BTreeSet<String> =
        (1000..1100).map(|port| node.leave_ok(&ask(port)).dst.to_string()).collect();
    assert_eq!(seen.len(), 7);
    assert_eq!(chosen(&node, V4, V4.client, 1000), backends[3]);
}

#[test]
fn a_table_that_does_not_fit_its_service_leaves_the_choice_to_chance() {
    let node = Node::new();
    let service = serve(&node, V4, &backends(V4, 7));
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

/// 10,000 tables of ten backends each are 7,500,000 entries.
#[test]
fn a_map_of_the_default_size_takes_less_than_64_megabytes() {
    let root = PinRoot::new();
    let mut options = root.options();
    options.map_sizes.insert("maglev".to_owned(), 7_900_000);
    drop(Datapath::open(options).unwrap());
    let map = MapHandle::from_pinned_path(root.path().join("maps/maglev")).unwrap();
    let number = map.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")).unwrap();
    let bytes: u64 = bytes.trim().parse().unwrap();
    assert!((63_000_000..=64_000_000).contains(&bytes), "{bytes}");
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
    let sync = agent_of(datapath, YAML, 1);
    assert!(sync.problems().is_empty(), "{:?}", sync.problems());
    sync
}

/// An agent that has written this text, which starts with so many services.
fn agent_of(datapath: &Datapath, yaml: &str, services: usize) -> ServiceSync {
    let selection = Selection { seed: SEED, ..Selection::default() };
    let maps = Arc::clone(datapath.maps());
    let mut sync = ServiceSync::adopt(maps, Context::of("here"), selection, &[]).unwrap();
    let (mut objects, problems) = parse(yaml, "test");
    assert!(problems.is_empty(), "{problems:?}");
    let slices = objects.split_off(services);
    sync.change(Change::Listed(Kind::Service, objects));
    sync.change(Change::Listed(Kind::EndpointSlice, slices));
    settle(&mut sync);
    sync
}

/// Until there is nothing left to do, at any time.
fn settle(sync: &mut ServiceSync) {
    let mut now = Instant::now();
    for _ in 0..100 {
        let Some(due) = sync.due(now) else { return };
        now = due.max(now + Duration::from_millis(1));
        sync.step(now);
    }
    panic!("there is always something to do");
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

/// Services `a` and `b`, at 192.0.2.1 and 192.0.2.2, of two and three endpoints.
const TWO: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: default, annotations: {service.culvert.io/lb-algorithm: maglev}}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], externalIPs: [192.0.2.1], ports: [{name: p, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: default, annotations: {service.culvert.io/lb-algorithm: maglev}}
spec: {clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2], externalIPs: [192.0.2.2], ports: [{name: p, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, namespace: default, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: p, port: 80}]
endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: b, namespace: default, labels: {kubernetes.io/service-name: b}}
addressType: IPv4
ports: [{name: p, port: 80}]
endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}, {addresses: [10.1.0.3]}]
";

#[test]
fn without_room_for_a_table_backends_are_chosen_by_chance_and_the_service_is_named() {
    let root = PinRoot::new();
    let mut options = root.options();
    // One table of 2,999 places, four an entry.
    options.map_sizes.insert("maglev".to_owned(), 750);
    let datapath = Datapath::open(options).unwrap();
    let mut sync = agent_of(&datapath, TWO, 2);
    let algorithm = |address| {
        let key = ServiceKey::new(ip(address), 80, TCP);
        datapath.maps().services.get(&key).unwrap().unwrap().algorithm
    };
    assert_eq!(["192.0.2.1", "192.0.2.2"].map(algorithm), [SERVICE_MAGLEV, SERVICE_RANDOM]);
    let problems = sync.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].subject, "Service default/b");
    assert!(problems[0].message.contains("map `maglev` is full"), "{problems:?}");
    assert!(problems[0].message.contains("`bpf.maglevMax`"), "{problems:?}");

    // Who leaves makes room, once no packet can look at its table any more.
    sync.change(Change::Removed(ObjectKey::Service(ObjectName::new("default", "a"))));
    settle(&mut sync);
    assert_eq!(algorithm("192.0.2.2"), SERVICE_MAGLEV);
    assert!(sync.problems().is_empty(), "{:?}", sync.problems());
}
