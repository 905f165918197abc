// SPDX-License-Identifier: Apache-2.0
//! The agent's tables: written, found again by the next one, and done without where there is no room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert::abi::{SERVICE_MAGLEV, SERVICE_RANDOM, Service, ServiceKey};
use culvert::agent::sync::ServiceSync;
use culvert::datapath::Datapath;
use culvert::k8s::manifests::parse;
use culvert::lb::maglev::{self, Member};
use culvert::lb::{Context, Selection};
use culvert::model::{Change, Kind, ObjectKey, ObjectName};

use super::maglev::SEED;
use crate::support::node::ip;
use crate::support::objects::TCP;
use crate::support::pins::PinRoot;

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
