// SPDX-License-Identifier: Apache-2.0
//! What operators ask: why a connection goes where it goes, and whether everything agrees.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use culvert::abi::ServiceKey;
use serde_json::{Value, json};

use super::kube::World;
use super::stage::{Stage, ip};
use crate::lab::cluster::node_ip;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::node::Node;

/// Exit code, and stdout or, where that is empty, stderr.
fn run(node: &Node, args: &[&str]) -> (i32, String) {
    let mut command = node.place.command(&node.programs.culvert);
    command.args(args).arg("--config").arg(node.dir.join("culvert.yaml"));
    let output = node.place.output(&mut command).unwrap();
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn explain(node: &Node, args: &[&str]) -> (i32, Value) {
    let (code, text) = run(node, &[&["service", "explain"], args, &["-o", "json"]].concat());
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// Fate, hooks and reason of the first verdict, which is the only one.
fn verdict(answer: &Value) -> (String, String, String) {
    let served = &answer["services"][0]["ports"][0]["frontends"][0]["verdicts"];
    let verdicts = if served.is_array() { served } else { &answer["otherwise"] };
    let [verdict] = verdicts.as_array().unwrap().as_slice() else { panic!("{verdicts}") };
    let hooks = verdict["hooks"].as_array().unwrap().iter().map(|hook| hook.as_str().unwrap());
    let text = |name: &str| verdict[name].as_str().unwrap().to_owned();
    (text("fate"), hooks.collect::<Vec<_>>().join(" "), text("reason"))
}

fn cluster_ip(service: &Service) -> SocketAddr {
    SocketAddr::new(service.cluster_ip(false), SERVICE_PORT)
}

#[test]
fn an_explanation_is_what_happens() {
    let stage = Stage::raise(2, "");
    let (node, client) = (stage.lab.node(1), &stage.clients[0]);
    let service = Service {
        name: "asked",
        kind: "LoadBalancer",
        number: 80,
        node_port: Some(30080),
        ingress: vec![ip("192.0.2.80")],
        ..Service::default()
    };
    let mut objects = service.objects(&[&stage.far]);
    objects[0]["spec"]["externalTrafficPolicy"] = "Local".into();
    objects[0]["spec"]["sessionAffinity"] = "ClientIP".into();
    objects.push(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "headless", "namespace": "lab"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    }));
    stage.lab.publish("asked", &objects).unwrap();
    let cluster = cluster_ip(&service);
    stage.ask_until(&node.place, "tcp", cluster, |outcome| outcome.is_from("far"));
    stage.ask_until(&client.place, "tcp", cluster, |outcome| outcome.is_from("far"));

    let (pod, outside) = (client.ips[0].to_string(), "198.51.100.9");
    let fate = |to: SocketAddr, from: &str| {
        let (code, answer) = explain(node, &[&to.to_string(), "--from", from]);
        let (fate, hooks, reason) = verdict(&answer);
        assert_eq!(code, i32::from(fate != "served"), "{to} from {from}: {reason}");
        (fate, hooks, reason, answer)
    };
    let (served, hooks, reason, answer) = fate(cluster, &pod);
    assert_eq!((served.as_str(), hooks.as_str()), ("served", "socket"), "{reason}");
    // The client has been there, and affinity remembers where.
    let verdict = &answer["services"][0]["ports"][0]["frontends"][0]["verdicts"][0];
    assert_eq!(verdict["remembered"], verdict["endpoints"][0], "{verdict}");
    assert!(verdict["remembered"].is_string(), "{verdict}");
    assert_eq!(fate(cluster, outside).0, "dropped");

    // Policy Local, and the endpoint is on the other node: as the packets find it.
    let node_port = SocketAddr::new(node_ip(1, false), 30080);
    let (dropped, hooks, reason, answer) = fate(node_port, outside);
    assert_eq!((dropped.as_str(), hooks.as_str()), ("dropped", "from_netdev"));
    assert!(reason.contains("no endpoint on this node"), "{reason}");
    assert!(!stage.ask(&stage.lab.outside, "tcp", node_port).is_from("far"));
    let endpoint = &answer["services"][0]["ports"][0]["endpoints"][0];
    assert_eq!(
        (&endpoint["reason"], &endpoint["node"]),
        (&json!("policy Local leaves it out: not on this node"), &json!("n2"))
    );
    assert_eq!(fate(node_port, &pod).0, "served");
    assert!(stage.ask(&client.place, "tcp", node_port).is_from("far"));

    // A port that nobody has: as a socket finds it.
    let unknown = SocketAddr::new(cluster.ip(), 81);
    let (refused, _, reason, answer) = fate(unknown, &pod);
    assert_eq!(refused, "refused", "{reason}");
    assert!(stage.ask(&client.place, "tcp", unknown).is_refusal());
    assert!(answer["notes"].to_string().contains("lab/asked"), "{answer}");

    let (code, text) = run(node, &["service", "explain", "lab/asked"]);
    assert_eq!(code, 0);
    for line in [&format!("{cluster}/TCP"), "*:30080/UDP", "192.0.2.80:80/TCP", "[fd96::80]:80/TCP"]
    {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let (code, text) = run(node, &["service", "explain", "lab/headless"]);
    assert_eq!(code, 1);
    assert!(text.contains("headless: DNS"), "{text}");
    let (code, text) = run(node, &["service", "explain", "nothing"]);
    assert_eq!(code, 1);
    assert!(text.contains("no such Service: `default/nothing`"), "{text}");
    for (args, why) in [
        ([cluster.ip().to_string().as_str(), "--from", &pod], "without a port"),
        ([cluster.to_string().as_str(), "--from", "fd00::9"], "other IP family"),
    ] {
        let (code, text) = run(node, &[&["service", "explain"], &args[..]].concat());
        assert!(code == 2 && text.contains(why), "{code}: {text}");
    }
    let (code, text) = run(node, &["service", "explain", "a/b/c", "--socket", "/nowhere.sock"]);
    assert_eq!(code, 2, "{text}");
}

#[test]
fn a_check_names_what_somebody_broke() {
    let stage = Stage::raise(1, "");
    let service = Service { name: "checked", number: 81, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    let node = stage.lab.node(1);
    let healthy = || {
        let (code, text) = run(node, &["check"]);
        assert_eq!((code, text.as_str()), (0, "No differences: source, agent and maps agree\n"));
    };
    // Also within the grace period of replaced slots.
    healthy();
    stage.serve(&service, &[&stage.far]);
    healthy();

    let maps = culvert::datapath::Maps::open_pinned(&stage.bpf_root(1)).unwrap();
    let key = ServiceKey::new(service.cluster_ip(false).into(), SERVICE_PORT, 6);
    let value = maps.services.get(&key).unwrap().unwrap();
    let named = |words: [&str; 2]| {
        let (code, text) = run(node, &["check"]);
        assert_eq!(code, 1, "{text}");
        assert_eq!(text.lines().count(), 2, "one difference and the title:\n{text}");
        for word in words {
            assert!(text.contains(word), "{word} in\n{text}");
        }
    };
    let frontend = format!("`services` {}/TCP", cluster_ip(&service));
    maps.services.remove(&key).unwrap();
    named([&frontend, "lacks"]);
    let mut wrong = value;
    wrong.generation += 7;
    maps.services.set(&key, &wrong).unwrap();
    named([&frontend, "generation"]);
    maps.services.set(&key, &value).unwrap();
    healthy();

    let pod = stage.clients[0].ips[0].into();
    let entry = maps.endpoints.get(&pod).unwrap().unwrap();
    maps.endpoints.remove(&pod).unwrap();
    named(["`endpoints` ", "lacks"]);
    maps.endpoints.set(&pod, &entry).unwrap();

    let client = maps.clients.get(&entry.netns_cookie).unwrap().unwrap();
    maps.clients.remove(&entry.netns_cookie).unwrap();
    named(["`clients` ", &stage.clients[0].ips[0].to_string()]);
    maps.clients.set(&entry.netns_cookie, &client).unwrap();

    let stray = ip("203.0.113.77").into();
    let owned = maps.owned.entries().unwrap()[0].1;
    maps.owned.set(&stray, &owned).unwrap();
    named(["`owned` 203.0.113.77", "the node does not"]);
    maps.owned.remove(&stray).unwrap();
    healthy();
}

#[test]
fn a_check_sees_what_a_watch_has_lost_and_is_not_misled_by_churn() {
    let mut world = World::raise();
    let service = Service { name: "watched", number: 82, ..Service::default() };
    let flapping = Service { name: "flapping", number: 83, ..Service::default() };
    world.set(&service, |stage| &stage.web);
    world.restart_agent();
    world.stage.lab.nodes[0].wait_ready().unwrap();
    world.until_served_by(&service, "web");
    let node = world.stage.lab.node(1);

    // A slice that never rests: every look meets another version of it.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while !done.load(Ordering::Relaxed) {
                let pods = [&world.stage.web, &world.stage.far];
                flapping.objects(&[pods[turn % 2]]).into_iter().for_each(|o| world.api.set(o));
                turn += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        let found: Vec<(i32, String)> = (0..5).map(|_| run(node, &["check"])).collect();
        done.store(true, Ordering::Relaxed);
        for (code, text) in found {
            assert_eq!(code, 0, "{text}");
        }
    });
    world.set(&flapping, |stage| &stage.far);
    world.until_served_by(&flapping, "far");

    world.api.lose_events(true);
    let mut objects = service.objects(&[&world.stage.web]);
    objects[0]["spec"]["internalTrafficPolicy"] = "Local".into();
    world.api.set(objects.remove(0));
    let (code, text) = run(node, &["check", "-o", "json"]);
    assert_eq!(code, 1, "{text}");
    let rows: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[0]["subject"], "Service lab/watched");
    let difference = rows[0]["difference"].as_str().unwrap();
    assert!(difference.contains("internal_policy"), "{difference}");

    let mut headless = service.objects(&[]).remove(0);
    headless["metadata"]["name"] = "bodiless".into();
    headless["spec"]["clusterIP"] = "None".into();
    headless["spec"]["clusterIPs"] = json!(["None"]);
    world.api.set(headless);
    let (code, text) = run(node, &["service", "explain", "lab/bodiless"]);
    assert_eq!(code, 1);
    assert!(text.contains("headless: DNS"), "{text}");
}
