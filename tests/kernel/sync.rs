// SPDX-License-Identifier: Apache-2.0
//! Services into real maps: grace periods, refused writes, restarts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert::abi::{VIP_CLUSTER_IP, VIP_EXTERNAL};
use culvert::agent::sync::ServiceSync;
use culvert::datapath::{Datapath, Maps};
use culvert::k8s::manifests::parse;
use culvert::lb::{Context, GRACE, Selection};
use culvert::model::{Change, Kind, Object, ObjectKey, ObjectName};

use crate::support::pins::PinRoot;

struct World {
    datapath: Datapath,
    _root: PinRoot,
}

impl World {
    fn new(sizes: &[(&str, u32)]) -> Self {
        let root = PinRoot::new();
        let mut options = root.options();
        options.map_sizes.extend(sizes.iter().map(|(name, size)| ((*name).to_owned(), *size)));
        Self { datapath: Datapath::open(options).unwrap(), _root: root }
    }

    fn maps(&self) -> &Arc<Maps> {
        self.datapath.maps()
    }

    fn start(&self) -> ServiceSync {
        let context = Context::of("here");
        ServiceSync::adopt(Arc::clone(self.maps()), context, Selection::default(), &[]).unwrap()
    }
}

fn service(number: u16) -> Object {
    one(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: s{number}, namespace: default}}, spec: \
         {{clusterIP: 10.96.0.{number}, clusterIPs: [10.96.0.{number}], ports: \
         [{{name: p, port: 80, protocol: UDP}}]}}}}"
    ))
}

fn slice(number: u16, addresses: &[&str]) -> Object {
    let endpoints: Vec<String> =
        addresses.iter().map(|address| format!("{{addresses: [{address}]}}")).collect();
    one(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: s{number}, \
         namespace: default, labels: {{kubernetes.io/service-name: s{number}}}}}, addressType: \
         IPv4, ports: [{{name: p, port: 80, protocol: UDP}}], endpoints: [{}]}}",
        endpoints.join(", ")
    ))
}

fn one(yaml: &str) -> Object {
    let (mut objects, problems) = parse(yaml, "test");
    assert!(problems.is_empty(), "{problems:?}");
    objects.remove(0)
}

fn list(sync: &mut ServiceSync, services: Vec<Object>, slices: Vec<Object>) {
    sync.change(Change::Listed(Kind::Service, services));
    sync.change(Change::Listed(Kind::EndpointSlice, slices));
}

/// Steps until nothing is due at `now`. Returns how many targets ended.
fn settle(sync: &mut ServiceSync, now: Instant) -> usize {
    let mut ended = 0;
    while sync.due(now).is_some_and(|due| due <= now) {
        ended += sync.step(now).ended.len();
    }
    ended
}

#[test]
fn nothing_is_written_before_services_and_slices_are_both_listed() {
    let world = World::new(&[]);
    let mut sync = world.start();
    sync.change(Change::Listed(Kind::Service, vec![service(1)]));
    assert_eq!(sync.due(Instant::now()), None);
    sync.step(Instant::now());
    assert!(world.maps().services.entries().unwrap().is_empty());

    sync.change(Change::Listed(Kind::EndpointSlice, vec![]));
    settle(&mut sync, Instant::now());
    assert_eq!(world.maps().services.entries().unwrap().len(), 1);
    assert!(sync.synced());
}

#[test]
fn old_slots_outlive_the_flip_by_the_grace_period() {
    let world = World::new(&[]);
    let mut sync = world.start();
    list(&mut sync, vec![service(1)], vec![slice(1, &["10.1.0.1"])]);
    let now = Instant::now();
    settle(&mut sync, now);
    sync.change(Change::Set(slice(1, &["10.1.0.2"])));
    let now = now + Duration::from_millis(60);
    assert_eq!(settle(&mut sync, now), 1, "the old target's UDP sockets are to be ended");
    assert_eq!(world.maps().backends.entries().unwrap().len(), 2);
    settle(&mut sync, now + GRACE + Duration::from_secs(1));
    let slots = world.maps().backends.entries().unwrap();
    assert_eq!(slots.len(), 1);
    assert_eq!(slots[0].1.addr.to_string(), "10.1.0.2");
}

#[test]
fn a_burst_is_gathered_and_the_first_change_is_not() {
    let world = World::new(&[]);
    let mut sync = world.start();
    list(&mut sync, vec![service(1)], vec![]);
    let now = Instant::now();
    assert_eq!(sync.due(now), Some(now));
    settle(&mut sync, now);
    sync.change(Change::Set(slice(1, &["10.1.0.1"])));
    assert_eq!(sync.due(now), Some(now + Duration::from_millis(50)));
    assert_eq!(sync.step(now).applied, 0);
    let later = now + Duration::from_secs(1);
    sync.change(Change::Set(slice(1, &["10.1.0.2"])));
    assert!(sync.due(later).unwrap() <= later);
    assert_eq!(sync.step(later).applied, 1);
}

#[test]
fn a_full_map_costs_only_the_services_that_do_not_fit_and_serves_them_once_there_is_room() {
    let world = World::new(&[("services", 2)]);
    let mut sync = world.start();
    let services = (1..=3).map(service).collect();
    let slices = (1..=3).map(|n| slice(n, &["10.1.0.1"])).collect();
    list(&mut sync, services, slices);
    let now = Instant::now();
    settle(&mut sync, now);
    assert_eq!(world.maps().services.entries().unwrap().len(), 2);
    assert_eq!(operations(&world, "services"), [2, 1, 0, 0]);
    assert_eq!(operations(&world, "backends"), [3, 0, 0, 0]);
    assert!(!sync.synced());
    assert_eq!(sync.pending(), 1);
    let problems = sync.problems();
    assert!(problems[0].message.contains("map `services` is full"), "{problems:?}");

    let served: Vec<String> = world
        .maps()
        .services
        .entries()
        .unwrap()
        .iter()
        .map(|(key, _)| key.vip.to_string().rsplit('.').next().unwrap().to_owned())
        .collect();
    let gone = ObjectName::new("default", format!("s{}", served[0]));
    sync.change(Change::Removed(ObjectKey::Service(gone)));
    settle(&mut sync, now + Duration::from_secs(60));
    assert!(sync.synced(), "{:?}", sync.problems());
    assert_eq!(world.maps().services.entries().unwrap().len(), 2);
    assert_eq!(operations(&world, "services"), [3, 1, 1, 0]);
}

/// Entries of a map that were written, refused, removed and not removed.
fn operations(world: &World, map: &str) -> [u64; 4] {
    let maps = world.maps().operations();
    let (_, counts) = maps.iter().find(|(name, _)| *name == map).unwrap();
    counts.all().map(|(.., entries)| entries)
}

/// A LoadBalancer at 192.0.2.N for clients of some ranges.
fn guarded(number: u16, ranges: &str) -> Object {
    one(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: s{number}, namespace: default}}, spec: \
         {{type: LoadBalancer, clusterIP: 10.97.0.{number}, loadBalancerSourceRanges: [{ranges}], \
         ports: [{{name: p, port: 80, protocol: UDP}}]}}, status: {{loadBalancer: {{ingress: \
         [{{ip: 192.0.2.{number}}}]}}}}}}"
    ))
}

#[test]
fn addresses_and_ranges_reach_the_maps_and_a_restart_keeps_them() {
    let world = World::new(&[]);
    let mut sync = world.start();
    list(&mut sync, vec![guarded(1, "203.0.113.0/24, 0.0.0.0/0")], vec![]);
    let now = Instant::now();
    settle(&mut sync, now);
    let vips = || {
        let mut vips = world.maps().vips.entries().unwrap();
        vips.sort_by_key(|(addr, _)| *addr);
        vips.into_iter().map(|(addr, vip)| (addr.to_string(), vip.flags)).collect::<Vec<_>>()
    };
    let expected =
        [("10.97.0.1".to_owned(), VIP_CLUSTER_IP), ("192.0.2.1".to_owned(), VIP_EXTERNAL)];
    assert_eq!(vips(), expected);
    let ranges = || {
        let keys = world.maps().source_ranges.entries().unwrap().into_iter();
        let mut bits: Vec<u32> = keys.map(|(key, _)| key.prefixlen).collect();
        bits.sort_unstable();
        bits
    };
    assert_eq!(ranges(), [128, 152]);
    drop(sync);

    let mut second = world.start();
    world.maps().set_host_ports(3).unwrap();
    list(&mut second, vec![guarded(1, "203.0.113.0/24")], vec![]);
    settle(&mut second, now + Duration::from_secs(1));
    assert!(second.synced());
    assert_eq!(vips(), expected);
    assert_eq!(ranges(), [152]);
    drop(second);

    let mut third = world.start();
    list(&mut third, vec![], vec![]);
    third.change(Change::Listed(Kind::Pod, vec![]));
    settle(&mut third, now + Duration::from_secs(2));
    assert!(vips().is_empty());
    assert!(ranges().is_empty());
    assert_eq!(world.maps().host_ports().unwrap(), 0, "an earlier agent's");
}

#[test]
fn each_full_map_is_named_with_the_services_that_wait_for_it() {
    for (map, room) in [("vips", 3), ("source_ranges", 1), ("backends", 1)] {
        let world = World::new(&[(map, room)]);
        let mut sync = world.start();
        let services = vec![guarded(1, "203.0.113.0/24"), guarded(2, "203.0.113.0/24")];
        let slices = vec![slice(1, &["10.1.0.1"]), slice(2, &["10.1.0.1"])];
        list(&mut sync, services, slices);
        let now = Instant::now();
        settle(&mut sync, now);
        let problems = sync.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let waits = ObjectName::new("default", problems[0].subject.rsplit('/').next().unwrap());
        assert!(problems[0].message.contains(&format!("map `{map}` is full")), "{problems:?}");

        let other = if &*waits.name == "s1" { "s2" } else { "s1" };
        let gone = ObjectName::new("default", other);
        sync.change(Change::Removed(ObjectKey::Service(gone)));
        let later = now + Duration::from_secs(60);
        settle(&mut sync, later);
        // The slots of the one that left go after their grace period; then there is room.
        settle(&mut sync, later + Duration::from_secs(120));
        settle(&mut sync, later + Duration::from_secs(240));
        assert!(sync.synced(), "{map}: {:?}", sync.problems());
        assert_eq!(world.maps().services.entries().unwrap().len(), 2, "{map}");
    }
}

#[test]
fn the_services_that_wait_for_a_full_map_are_named_one_by_one() {
    for (services, wait) in [(3, "2 wait"), (14, "13 wait")] {
        let world = World::new(&[("services", 1)]);
        let mut sync = world.start();
        list(&mut sync, (1..=services).map(service).collect(), vec![]);
        settle(&mut sync, Instant::now());
        let problems = sync.problems();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(!sync.synced() && sync.settled(), "{problem:?}");
        assert!(problem.message.contains("map `services` is full"), "{problem:?}");
        assert!(problem.message.contains(wait), "{problem:?}");
        let named = problem.message.matches("Service default/s").count();
        assert_eq!(named, usize::from(services - 1).min(10), "{problem:?}");
        assert_eq!(problem.message.ends_with(" and 3 more"), services == 14, "{problem:?}");
    }
}

#[test]
fn a_restart_in_the_middle_is_completed_and_leftovers_are_pruned() {
    let world = World::new(&[]);
    let mut first = world.start();
    let services = || (1..=2).map(service).collect::<Vec<_>>();
    list(&mut first, services(), vec![slice(1, &["10.1.0.1"]), slice(2, &["10.1.0.2"])]);
    let now = Instant::now();
    settle(&mut first, now);
    first.change(Change::Set(slice(1, &["10.1.0.3"])));
    settle(&mut first, now + Duration::from_millis(60));
    let ids: Vec<_> = world.maps().services.entries().unwrap();
    // Killed with old slots still there.
    drop(first);

    let mut second = world.start();
    assert_eq!(world.maps().services.entries().unwrap().len(), 2);
    list(&mut second, vec![service(1)], vec![slice(1, &["10.1.0.3"])]);
    settle(&mut second, now + Duration::from_secs(1));
    settle(&mut second, now + Duration::from_secs(10));
    assert!(second.synced());
    let services = world.maps().services.entries().unwrap();
    assert_eq!(services.len(), 1);
    assert!(ids.contains(&services[0]), "id and generation stayed");
    assert_eq!(world.maps().backends.entries().unwrap().len(), 1);
}
