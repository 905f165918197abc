// SPDX-License-Identifier: Apache-2.0
//! Sockets that connect while the tables change under them as fast as they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use culvert::abi::BackendKey;
use culvert::agent::sync::ServiceSync;
use culvert::k8s::manifests::parse;
use culvert::lb::{Context, Selection};
use culvert::model::{Change, Kind, Object};

use crate::support::objects::{Frontend, UDP};
use crate::support::sockets::{SocketNode, udp};

const VIPS: [&str; 2] = ["10.96.0.1:80", "[fd96::1]:80"];
const CONNECTS: usize = 50_000;

#[test]
fn no_connect_fails_while_the_agent_moves_a_service_to_and_fro() {
    let node = SocketNode::new();
    let maps = Arc::clone(node.objects.maps());
    let context = Context::of("here");
    let mut sync = ServiceSync::adopt(maps, context, Selection::default(), &[]).unwrap();
    let mut settle = fast_clock();
    sync.change(Change::Listed(Kind::Service, vec![service()]));
    let slices = vec![slice(&["10.1.0.1"]), slice(&["fd00:1::1"])];
    sync.change(Change::Listed(Kind::EndpointSlice, slices));
    settle(&mut sync);

    let sets: [[&[&str]; 2]; 3] = [
        [&["10.1.0.1", "10.1.0.2", "10.1.0.3"], &["fd00:1::2"]],
        [&["10.1.0.2"], &["fd00:1::1", "fd00:1::2", "fd00:1::3"]],
        [&["10.1.0.1"], &["fd00:1::1"]],
    ];
    for vip in VIPS {
        let mut sets = sets.into_iter().cycle();
        let failed = connect_while(&node, vip, || {
            for addresses in sets.next().unwrap() {
                sync.change(Change::Set(slice(addresses)));
            }
            settle(&mut sync);
        });
        assert_eq!(failed, 0, "{vip}");
    }
    assert!(sync.problems().is_empty(), "{:?}", sync.problems());
}

/// Writes what has changed. The agent's clock runs as fast as it can, so its grace period is a few
/// dozen changes long.
pub(super) fn fast_clock() -> impl FnMut(&mut ServiceSync) {
    let mut now = Instant::now();
    move |sync| {
        now += Duration::from_millis(60);
        while sync.due(now).is_some_and(|due| due <= now) {
            sync.step(now);
        }
    }
}

/// Old slots go at once, which the agent never does: only the second reading saves a connect that
/// was between the service and its slot. One may be held up twice.
#[test]
fn a_connect_whose_slots_went_meanwhile_reads_the_service_again() {
    let node = SocketNode::new();
    let service = node.objects.serve(Frontend::cluster_ip(VIPS[0], UDP), &["10.1.0.1:8080"]);
    let target = service.targets()[0];
    let mut generation = 1;
    let failed = connect_while(&node, VIPS[0], || {
        service.set_backends(&[target]);
        let old = BackendKey { service: service.id, generation, slot: 0 };
        assert!(node.objects.maps().backends.remove(&old).unwrap());
        generation += 1;
    });
    assert!(failed <= 2, "{failed} of {CONNECTS} connects failed");
}

/// Connects to `vip` while `change` runs again and again. Returns how many failed: no route leads to the
/// service but through a translation.
fn connect_while(node: &SocketNode, vip: &str, mut change: impl FnMut() + Send) -> usize {
    let done = AtomicBool::new(false);
    let changes = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                change();
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let failed = node.host(|| {
            let client = udp(if vip.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
            let mut failed = 0;
            let mut connects = 0;
            // However few CPUs there are, the two overlap.
            while connects < CONNECTS || changes.load(Ordering::Relaxed) < 1000 {
                failed += usize::from(client.connect(vip).is_err());
                connects += 1;
            }
            failed
        });
        done.store(true, Ordering::Relaxed);
        failed
    })
}

fn service() -> Object {
    object(
        "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: default}, spec: {clusterIP: \
         10.96.0.1, clusterIPs: [10.96.0.1, 'fd96::1'], ports: [{name: p, port: 80, protocol: UDP}]}}",
    )
}

fn slice(addresses: &[&str]) -> Object {
    let family = if addresses[0].contains(':') { "IPv6" } else { "IPv4" };
    let endpoints: Vec<String> =
        addresses.iter().map(|address| format!("{{addresses: ['{address}']}}")).collect();
    object(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {}, namespace: \
         default, labels: {{kubernetes.io/service-name: s}}}}, addressType: {family}, ports: \
         [{{name: p, port: 80, protocol: UDP}}], endpoints: [{}]}}",
        family.to_lowercase(),
        endpoints.join(", ")
    ))
}

pub(super) fn object(yaml: &str) -> Object {
    let (mut objects, problems) = parse(yaml, "test");
    assert!(problems.is_empty(), "{problems:?}");
    objects.remove(0)
}
