// SPDX-License-Identifier: Apache-2.0
//! An agent's life: starts that are refused or go wrong, health, its end, and what remains.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::configured::problems;
use super::stage::{Stage, eventually, status};
use crate::client::Outcome;
use crate::lab::manifest::{SERVICE_PORT, Service};
use crate::lab::node::Node;

/// Ends the agent as systemd would.
fn stop(node: &mut Node) {
    let mut agent = node.agent.take().unwrap();
    kill(Pid::from_raw(agent.id() as i32), Signal::SIGTERM).unwrap();
    assert!(agent.wait().unwrap().success());
}

fn configured(node: &Node, change: impl Fn(&str) -> String) {
    let path = node.dir.join("culvert.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text.lines().map(change).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

/// Runs an agent that is expected to end by itself.
pub fn refused(node: &Node) -> String {
    let mut command = node.place.command(&node.programs.culvert);
    command.args(["agent", "--config"]).arg(node.dir.join("culvert.yaml"));
    let Output { status, stderr, .. } = node.place.output(command.stdin(Stdio::null())).unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8_lossy(&stderr).into_owned()
}

/// Entries by map, of those that hold still while nothing changes.
fn entries(status: &Value) -> BTreeMap<String, u64> {
    let still =
        ["services", "endpoints", "owned", "uplinks", "vips", "source_ranges", "nodes", "clients"];
    let maps = status["maps"].as_array().unwrap().iter();
    let one = |map: &Value| Some((map["name"].as_str()?.to_owned(), map["entries"].as_u64()?));
    maps.filter_map(one).filter(|(name, _)| still.contains(&name.as_str())).collect()
}

/// What the status says without an agent.
fn left(node: &Node, args: &[&str]) -> String {
    let mut command = node.place.command(&node.programs.culvert);
    command.arg("status").args(args).arg("--config");
    let command = command.arg(node.dir.join("culvert.yaml")).stdin(Stdio::null());
    let Output { status, stdout, .. } = node.place.output(command).unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Status code and body of a page of `:1025`.
pub fn page(node: &Node, path: &str) -> (u16, String) {
    let mut stream = node.place.netns.run(|| TcpStream::connect("127.0.0.1:1025")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn traffic_goes_on_without_the_agent_until_it_is_cleaned_up() {
    let mut stage = Stage::raise(1, "");
    let service = Service { name: "stays", number: 90, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    let to = SocketAddr::new(service.cluster_ip(false), SERVICE_PORT);
    let node = &stage.lab.nodes[0];
    let in_use = refused(node);
    assert!(in_use.contains("another agent answers on"), "{in_use}");
    let refusal = node.culvert(&["cleanup"]).unwrap_err().to_string();
    assert!(refusal.contains("an agent answers on"), "{refusal}");
    let mut held = BTreeMap::new();
    eventually("the agent counts what the maps hold", || {
        held = entries(
            &serde_json::from_str(&left(node, &["-o", "json", "--socket", "/nowhere.sock"]))
                .unwrap(),
        );
        held == entries(&status(node))
    });
    assert_eq!(held.len(), 8, "{held:?}");
    assert!(held["vips"] > 0 && held["nodes"] > 0 && held["clients"] > 0, "{held:?}");

    stop(&mut stage.lab.nodes[0]);
    let node = &stage.lab.nodes[0];
    assert!(stage.ask(&stage.clients[0].place, "tcp", to).is_from("web"));
    assert!(node.culvert(&["service", "list"]).unwrap().contains("10.96.0.90:80/TCP"));
    let shown = left(node, &[]);
    assert!(shown.starts_with("Agent:                   Not answering: "), "{shown}");
    assert!(shown.contains(" frontends, "), "{shown}");
    // Nobody answers now, so the monitor reads the ring itself: a pod's false source is a drop.
    let mut monitor = node.place.command(&node.programs.culvert);
    monitor.args(["monitor", "--config"]).arg(node.dir.join("culvert.yaml"));
    let mut monitor =
        node.place.spawn(monitor.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
    let mut said = String::new();
    BufReader::new(monitor.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("reading the ring of events itself"), "{said}");
    let pod = &stage.clients[0].place;
    pod.netns.ip("addr add 10.77.0.1/32 dev eth0");
    pod.output(pod.command("ping").args(["-c1", "-W1", "-I", "10.77.0.1", "10.1.1.1"])).unwrap();
    BufReader::new(monitor.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("drop spoofed_source"), "{said}");
    kill(Pid::from_raw(monitor.id() as i32), Signal::SIGTERM).unwrap();
    monitor.wait().unwrap();

    node.culvert(&["cleanup"]).unwrap();
    assert!(!stage.bpf_root(1).exists());
    let answer = stage.ask(&node.place, "tcp", to);
    assert!(matches!(answer, Outcome::Error { .. }), "{answer:?}");
}

#[test]
fn strict_ends_where_partial_goes_on_and_says_what_is_off() {
    let mut stage = Stage::raise(1, "");
    stop(&mut stage.lab.nodes[0]);
    let node = &mut stage.lab.nodes[0];
    let nowhere = node.dir.join("no-cgroup");
    std::fs::create_dir(&nowhere).unwrap();
    configured(node, |line| match line.starts_with("cgroupRoot: ") {
        true => format!("cgroupRoot: {}\nkubeProxyReplacement: strict", nowhere.display()),
        false => line.to_owned(),
    });
    let error = refused(node);
    assert!(error.contains("cannot balance sockets"), "{error}");
    assert!(error.contains(nowhere.to_str().unwrap()), "{error}");

    configured(node, |line| line.replace("strict", "partial"));
    node.start_agent().unwrap();
    node.wait_ready().unwrap();
    let shown = status(node);
    let feature = &shown["features"]["socketLb"];
    assert_eq!(
        (&feature["requested"], &feature["effective"]),
        (&"Enabled".into(), &"Disabled".into())
    );
    assert_eq!(problems(&shown), ["socket load balancing"]);
    let text = node.culvert(&["status"]).unwrap();
    assert!(text.contains("Partial (without socket load balancing)"), "{text}");
}

#[test]
fn a_node_about_to_leave_is_alive_and_not_eligible() {
    let stage = Stage::raise(1, "");
    let node = stage.lab.node(1);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = node.manifest();
        change(&mut manifest);
        stage.lab.publish("nodes", &[manifest]).unwrap();
    };
    let leaves: [&dyn Fn(&mut Value); 2] = [
        &|node| {
            node["spec"]["taints"] = serde_json::json!([
                { "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }
            ]);
        },
        &|node| node["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
    ];
    for leave in leaves {
        with(leave);
        eventually("/healthz is 503", || page(node, "/healthz").0 == 503);
        assert!(page(node, "/healthz").1.contains(r#""nodeEligible":false"#));
        assert_eq!(page(node, "/livez").0, 200);
        with(&|_| ());
        eventually("/healthz is 200", || page(node, "/healthz").0 == 200);
    }
    with(&|node| node["metadata"]["name"] = "another".into());
    eventually("/healthz is 503 without the object", || page(node, "/healthz").0 == 503);
    assert_eq!(page(node, "/livez").0, 200);
    with(&|_| ());
    eventually("/healthz is 200 with it", || page(node, "/healthz").0 == 200);

    let documented = include_str!("../../../docs/reference/metrics.md");
    let names = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let (_, metrics) = page(node, "/metrics");
    let missing: Vec<&str> =
        names.filter(|name| !metrics.contains(&format!("# TYPE {name} "))).collect();
    // These have a line an API server, and here is none.
    let missing: Vec<&str> = missing
        .into_iter()
        .filter(|name| !["culvert_source_", "rest_client_"].iter().any(|of| name.starts_with(of)))
        .collect();
    assert!(missing.is_empty(), "documented and not exported: {missing:?}");
    let documented = |name: &&str| documented.contains(&format!("| `{name}` |"));
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert_eq!(types.filter(|name| !documented(name)).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn damaged_state_and_a_missing_directory_do_not_keep_an_agent_from_starting() {
    let mut stage = Stage::raise(1, "");
    let service = Service { name: "kept", number: 91, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    let to = SocketAddr::new(service.cluster_ip(false), SERVICE_PORT);
    stop(&mut stage.lab.nodes[0]);

    let state = stage.lab.node(1).dir.join("state");
    let id = stage.web.host_device().trim_start_matches("lxc").to_owned();
    let file: PathBuf = state.join(format!("endpoints/{id}.json"));
    let text = std::fs::read(&file).unwrap();
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    std::fs::create_dir_all(state.join("deletions")).unwrap();
    std::fs::write(state.join("deletions/none.json"), "{").unwrap();
    std::fs::write(state.join("culvert.sock.stale"), "").unwrap();
    let (manifests, away) = (stage.lab.manifests(), stage.lab.dir.join("away"));
    std::fs::rename(&manifests, &away).unwrap();
    // As on a node that boots: what tells kubelet that pods may come is not there yet.
    let conflist = stage.lab.node(1).dir.join("cni/05-culvert.conflist");
    std::fs::remove_file(&conflist).unwrap();

    stage.lab.nodes[0].start_agent().unwrap();
    let node = &stage.lab.nodes[0];
    eventually("the agent answers", || page_or_none(node, "/livez") == Some(200));
    assert_eq!(page(node, "/readyz").0, 503, "nothing is listed yet");
    assert!(stage.ask(&stage.clients[0].place, "tcp", to).is_from("web"));
    // The attempts that follow have room to go wrong.
    std::thread::sleep(Duration::from_secs(1));
    assert!(!conflist.exists(), "pods are welcome");
    assert_eq!(page(node, "/readyz").0, 503);
    std::fs::rename(&away, &manifests).unwrap();
    stage.lab.publish_text("bad", "kind: Service\nspec: [not, closed").unwrap();
    stage.lab.nodes[0].wait_ready().unwrap();
    let node = &stage.lab.nodes[0];
    eventually("/readyz is 200", || page(node, "/readyz").0 == 200);
    assert!(conflist.exists());
    let text = node.culvert(&["status"]).unwrap();
    assert!(text.contains(&format!("{} is damaged", quoted(&file))), "{text}");
    assert!(text.contains("bad.yaml"), "{text}");
    for pod in [&stage.web, &stage.far] {
        let direct = SocketAddr::new(pod.ips[0], crate::lab::pod::PORT);
        stage.ask_until(&stage.clients[0].place, "tcp", direct, |o| o.is_from(&pod.name));
    }
    assert!(stage.ask(&stage.lab.node(1).place, "tcp", to).is_from("web"));
    let new = stage.lab.node(1).add_pod("new").unwrap();
    assert!(!new.ips.iter().any(|ip| stage.web.ips.contains(ip)));
    new.delete(stage.lab.node(1)).unwrap();
}

fn page_or_none(node: &Node, path: &str) -> Option<u16> {
    node.place.netns.run(|| TcpStream::connect("127.0.0.1:1025")).ok()?;
    Some(page(node, path).0)
}

fn quoted(path: &std::path::Path) -> String {
    format!("`{}`", path.display())
}
