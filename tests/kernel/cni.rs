// SPDX-License-Identifier: Apache-2.0
//! The plugin as a runtime starts it, against the agent's side of pods and the running kernel.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use culvert::agent::endpoints::{Endpoints, Settings};
use culvert::cni::api::Call;
use culvert::datapath::Datapath;
use nix::net::if_::if_nametoindex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::netns::NetNs;
use crate::support::pins::PinRoot;

#[test]
fn a_pod_is_connected_checked_and_disconnected() {
    let node = Node::new();
    let pod = NetNs::new();
    let result = node.add("c1", &pod).unwrap();
    assert_eq!(result["cniVersion"], "1.1.0");
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/32");
    assert_eq!(result["ips"][1]["address"], "fd00:1::2/128");
    assert_eq!(result["interfaces"][1]["sandbox"], pod.path().to_str().unwrap());

    // The host reaches the pod through its own stack, over both families.
    node.netns.ip("addr add 10.9.9.9/32 dev lo");
    node.netns.ip("addr add fd99::9/128 dev lo nodad");
    for ip in ["10.1.0.2", "fd00:1::2"] {
        let server = pod.run(|| std::net::TcpListener::bind((ip, 80)).unwrap());
        node.netns.run(|| std::net::TcpStream::connect((ip, 80))).unwrap();
        drop(server);
    }
    let datapath = node.agent.lock().unwrap();
    let entries = datapath.1.maps().endpoints.entries().unwrap();
    assert_eq!(entries.len(), 2);
    // Socket hooks know the pod by its namespace.
    let clients = datapath.1.maps().clients.entries().unwrap();
    let [(cookie, client)] = clients[..] else { panic!("{clients:?}") };
    for (addr, entry) in entries {
        assert_eq!(entry.netns_cookie, cookie);
        assert!([client.v4, client.v6].contains(&addr), "{addr} in {client:?}");
    }
    drop(datapath);

    node.run("CHECK", "c1", &pod, json!({ "prevResult": result })).unwrap();
    pod.ip("addr del 10.1.0.2/32 dev eth0");
    let lost = node.run("CHECK", "c1", &pod, json!({ "prevResult": result })).unwrap_err();
    assert_eq!(lost["code"], 102, "{lost}");
    assert!(lost["msg"].as_str().unwrap().contains("10.1.0.2"), "{lost}");

    for _ in 0..2 {
        node.run("DEL", "c1", &pod, json!({})).unwrap();
    }
    let device = result["interfaces"][0]["name"].as_str().unwrap();
    assert!(node.netns.run(|| if_nametoindex(device)).is_err());
    assert!(pod.run(|| if_nametoindex("eth0")).is_err());
    assert_eq!(node.agent.lock().unwrap().1.maps().endpoints.entries().unwrap(), []);
    assert_eq!(node.agent.lock().unwrap().1.maps().clients.entries().unwrap(), []);
}

#[test]
fn a_refused_add_leaves_nothing() {
    let node = Node::new();
    let pod = NetNs::new();
    pod.ip("link add eth0 type veth peer name other");
    let refused = node.add("c1", &pod).unwrap_err();
    assert_eq!(refused["code"], 4, "{refused}");
    assert_eq!(node.endpoints(), 0);
    pod.ip("link del eth0");

    // An address that the kernel refuses: the pod has it on another device, as a black hole.
    pod.ip("link add x type veth peer name y");
    pod.ip("link set x up");
    pod.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap());
    let refused = node.add("c1", &pod).unwrap_err();
    assert_eq!(refused["code"], 100, "{refused}");
    assert_eq!(node.endpoints(), 0);
    let devices = node.netns.run(|| nix::net::if_::if_nameindex().unwrap().iter().count());
    assert_eq!(devices, 1, "only lo is left");

    pod.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0").unwrap());
    let result = node.add("c1", &pod).unwrap();
    assert_eq!(result["ips"].as_array().unwrap().len(), 2);
}

#[test]
fn a_deletion_without_an_agent_frees_the_address_later() {
    let mut node = Node::new();
    let (first, second) = (NetNs::new(), NetNs::new());
    let result = node.add("c1", &first).unwrap();
    node.stop_serving();
    node.run("DEL", "c1", &first, json!({})).unwrap();
    assert!(first.run(|| if_nametoindex("eth0")).is_err(), "the device goes at once");
    assert_eq!(node.endpoints(), 1, "nobody told the agent");
    node.serve();
    let again = node.add("c2", &second).unwrap();
    assert_eq!(node.endpoints(), 1);
    assert_ne!(again["ips"], result["ips"], "a freed address rests");
}

#[test]
fn gc_removes_what_the_runtime_does_not_know() {
    let node = Node::new();
    let (stays, goes) = (NetNs::new(), NetNs::new());
    node.add("stays", &stays).unwrap();
    node.add("goes", &goes).unwrap();
    let valid = json!([{ "containerID": "stays", "ifname": "eth0" }]);
    node.run("GC", "", &stays, json!({ "cni.dev/valid-attachments": valid })).unwrap();
    assert!(stays.run(|| if_nametoindex("eth0")).is_ok());
    assert!(goes.run(|| if_nametoindex("eth0")).is_err());
    assert_eq!(node.endpoints(), 1);
}

#[test]
fn status_asks_the_agent() {
    let mut node = Node::new();
    let pod = NetNs::new();
    node.run("STATUS", "", &pod, json!({})).unwrap();
    node.agent.lock().unwrap().0.set_not_ready(Some("no pod CIDR".into()));
    let refused = node.run("STATUS", "", &pod, json!({})).unwrap_err();
    assert_eq!((&refused["code"], &refused["details"]), (&json!(50), &json!("no pod CIDR")));
    node.stop_serving();
    let refused = node.run("STATUS", "", &pod, json!({})).unwrap_err();
    assert_eq!(refused["code"], 50, "{refused}");
}

/// A namespace that is a node, with the agent's side of the calls.
struct Node {
    netns: NetNs,
    dir: TempDir,
    agent: Arc<Mutex<(Endpoints, Datapath)>>,
    _pins: PinRoot,
}

impl Node {
    fn new() -> Self {
        let (netns, dir, pins) = (NetNs::new(), TempDir::new().unwrap(), PinRoot::new());
        let agent = netns.run(|| {
            let mut datapath = Datapath::open(pins.options()).unwrap();
            let settings = Settings {
                state_dir: dir.path().to_owned(),
                hairpin: ["169.254.42.1", "fe80::42:1"]
                    .map(|ip| ip.parse::<IpAddr>().unwrap())
                    .into(),
            };
            let (mut endpoints, problems) = Endpoints::restore(settings, &mut datapath).unwrap();
            assert_eq!(problems, []);
            endpoints.set_pod_cidrs(&["10.1.0.0/24", "fd00:1::/64"].map(|c| c.parse().unwrap()));
            endpoints.set_not_ready(None);
            (endpoints, datapath)
        });
        let node = Self { netns, dir, agent: Arc::new(Mutex::new(agent)), _pins: pins };
        node.serve();
        node
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("culvert.sock")
    }

    /// Answers on the socket until it is removed. Only the node's namespace has its devices.
    fn serve(&self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let agent = Arc::clone(&self.agent);
        let netns = std::fs::File::open(self.netns.path()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                culvert::cni::netns::inside(&netns, || answer(stream?, &agent)).unwrap();
            }
        });
    }

    fn stop_serving(&mut self) {
        std::fs::remove_file(self.socket()).unwrap();
    }

    fn endpoints(&self) -> usize {
        self.agent.lock().unwrap().0.list().count()
    }

    fn add(&self, container: &str, pod: &NetNs) -> Result<Value, Value> {
        self.run("ADD", container, pod, json!({}))
    }

    fn run(
        &self,
        command: &str,
        container: &str,
        pod: &NetNs,
        more: Value,
    ) -> Result<Value, Value> {
        let mut conf = json!({
            "cniVersion": "1.1.0",
            "name": "culvert",
            "type": "culvert-cni",
            "socket": self.socket(),
            "stateDir": self.dir.path(),
        });
        conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_culvert-cni"));
        plugin
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", pod.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = self.netns.run(|| plugin.spawn()).unwrap();
        child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() { Ok(json) } else { Err(json) }
    }
}

/// One exchange, as the agent's server has it.
fn answer(mut stream: UnixStream, agent: &Mutex<(Endpoints, Datapath)>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let (head, length) = loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&request);
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text[..end].lines().find_map(|line| line.strip_prefix("Content-Length: "));
            break (end + 4, length.unwrap().parse::<usize>().unwrap());
        }
    };
    while request.len() < head + length {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
    }
    let line = String::from_utf8_lossy(&request[..head]).into_owned();
    let name = line.split(' ').nth(1).unwrap().strip_prefix("/v1/cni/").unwrap();
    let mut agent = agent.lock().unwrap();
    let (endpoints, datapath) = &mut *agent;
    let done =
        Call::parse(name, &request[head..]).and_then(|call| endpoints.handle(call, datapath));
    let (status, body) = match done {
        Ok(reply) => (200, serde_json::to_string(&reply)?),
        Err(error) => (500, serde_json::to_string(&error)?),
    };
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
