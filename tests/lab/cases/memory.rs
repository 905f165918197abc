// SPDX-License-Identifier: Apache-2.0
//! What the agent holds after much change: as much as before it.

use serde_json::{Value, json};

use super::kube::World;
use super::stage::eventually;
use crate::support::apiserver::Resource;

const SERVICES: usize = 60;
const ENDPOINTS: usize = 100;
/// As long as the queue of freed targets grows, which ends at 16,384, and the first names are let go.
const WARM_UP: usize = 8;
/// Replaces 72,000 endpoints and 720 services with names of their own.
const ROUNDS: usize = 12;
/// One word kept for each endpoint that was replaced is more. Names that nobody uses any more are let
/// go a thousand at a time, and the queue of freed targets doubles its room where a batch is large.
const SLACK: f64 = 512.0 * 1024.0;

const HEAP: &str = "culvert_heap_bytes";
const PENDING: &str = "culvert_sync_pending";

#[test]
fn much_change_leaves_the_agent_no_larger() {
    let mut world = World::raise();
    world.restart_agent();
    world.stage.lab.nodes[0].wait_ready().unwrap();
    (0..WARM_UP).for_each(|round| churn(&world, round));
    let before = heap(&world);
    (WARM_UP..WARM_UP + ROUNDS).for_each(|round| churn(&world, round));
    eventually("the agent is no larger than before", || {
        let now = heap(&world);
        println!("{before} bytes before, {now} now");
        now < before + SLACK
    });
}

fn heap(world: &World) -> f64 {
    world.stage.lab.node(1).metric(HEAP)
}

/// Every service gives way to one of another name, with other endpoints, one by one.
fn churn(world: &World, round: usize) {
    for number in 0..SERVICES {
        let [service, slice] = objects(number, round);
        world.api.set(service);
        world.api.set(slice);
        if let Some(before) = round.checked_sub(1) {
            let name = name(number, before);
            world.api.delete(Resource::Services, "lab", &name);
            world.api.delete(Resource::EndpointSlices, "lab", &name);
        }
    }
    // Until the slots that were replaced are gone from the maps, and from the agent's list of them.
    let [last, _] = objects(SERVICES - 1, round);
    let last: std::net::IpAddr = last["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    eventually("the round is written and nothing is left of the one before", || {
        let maps = world.maps();
        let knows_last = maps.vips.get(&last.into()).unwrap().is_some();
        let slots = maps.backends.entries().unwrap().len();
        let idle = world.stage.lab.node(1).metric(PENDING) == 0.0;
        knows_last && slots == SERVICES * ENDPOINTS && idle
    });
    world.api.forget_history();
}

fn name(number: usize, round: usize) -> String {
    format!("s{number}-{round}")
}

fn objects(number: usize, round: usize) -> [Value; 2] {
    let name = name(number, round);
    let ip = format!("10.97.{round}.{}", number + 1);
    let endpoint = |index| {
        json!({
            "addresses": [format!("10.{}.{number}.{index}", 100 + round)],
            "conditions": { "ready": true },
            "nodeName": format!("node-{index}-{round}"),
            "hints": { "forZones": [{ "name": format!("zone-{}", number % 3) }] },
        })
    };
    let endpoints: Vec<Value> = (0..ENDPOINTS).map(endpoint).collect();
    let port = json!({ "name": "p", "port": 80, "protocol": "TCP" });
    let service = json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": { "name": name, "namespace": "lab" },
        "spec": { "clusterIP": ip, "clusterIPs": [ip], "ports": [port] },
    });
    let slice = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": "lab",
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [port],
    });
    [service, slice]
}
