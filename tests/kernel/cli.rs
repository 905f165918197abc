// SPDX-License-Identifier: Apache-2.0
//! The commands that read pinned maps, with no agent alive: the binary against a real bpffs.

use std::net::IpAddr;
use std::process::Command;

use culvert::abi::{
    Addr, Backend, BackendKey, Endpoint, OWNED_NODEPORT, Owned, Service, ServiceKey, ServiceKind,
    SlotRange,
};
use culvert::datapath::{Datapath, Maps};
use zerocopy::FromZeros as _;

use crate::support::cgroup::Cgroup;
use crate::support::netns::NetNs;
use crate::support::pins::PinRoot;

/// In a network namespace of its own: `cleanup` looks at every device it can see.
fn culvert(root: &PinRoot, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.args(args).args(["--socket", "/nowhere.sock", "--bpf-root"]).arg(root.path());
    let output = NetNs::new().run(|| command.env_clear().output().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

/// nginx of the notes: a ClusterIP and a NodePort with one backend.
fn fill(maps: &Maps) {
    let mut service = Service::new_zeroed();
    (service.id, service.generation) = (4, 1);
    service.outside = SlotRange { first: 0, count: 1 };
    service.inside = service.outside;
    for (vip, port, kind) in [
        (addr("10.107.137.30"), 80, ServiceKind::ClusterIp),
        (Addr::V4_WILDCARD, 30202, ServiceKind::NodePort),
    ] {
        service.kind = kind as u8;
        maps.services.set(&ServiceKey::new(vip, port, 6), &service).unwrap();
    }
    let mut backend = Backend::new_zeroed();
    (backend.addr, backend.port) = (addr("10.217.0.203"), 80.into());
    maps.backends.set(&BackendKey { service: 4, generation: 1, slot: 0 }, &backend).unwrap();
    let owned = Owned { ifindex: 2, flags: OWNED_NODEPORT };
    maps.owned.set(&addr("10.16.29.16"), &owned).unwrap();
    let mut endpoint = Endpoint::new_zeroed();
    (endpoint.ifindex, endpoint.mac) = (9, [2, 0, 0, 0, 0, 1]);
    maps.endpoints.set(&addr("10.217.0.203"), &endpoint).unwrap();
}

#[test]
fn lists_work_with_the_agent_down() {
    let root = PinRoot::new();
    let datapath = Datapath::open(root.options()).unwrap();
    for list in [
        &["service", "list"][..],
        &["bpf", "lb", "list"],
        &["bpf", "flow", "list"],
        &["bpf", "endpoint", "list"],
        &["bpf", "metrics", "list"],
    ] {
        let (code, out, err) = culvert(&root, &[list, &["-o", "json"]].concat());
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "[]\n", ""), "{list:?}");
    }

    fill(datapath.maps());
    // Nothing that lives but the pins.
    drop(datapath);
    let (code, out, _) = culvert(&root, &["service", "ls"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "\
ID   Frontend                Service Type   Backend
1    10.107.137.30:80/TCP    ClusterIP      1 => 10.217.0.203:80/TCP (active)
2    0.0.0.0:30202/TCP       NodePort       1 => 10.217.0.203:80/TCP (active)
3    10.16.29.16:30202/TCP   NodePort       1 => 10.217.0.203:80/TCP (active)
"
    );
    let (_, out, _) = culvert(&root, &["service", "list", "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&rows[1]["serviceType"], &rows[1]["serviceId"]), (&"NodePort".into(), &4.into()));
    assert_eq!(rows[1]["backends"][0]["address"], "10.217.0.203:80/TCP");
    let (_, out, _) = culvert(&root, &["bpf", "endpoint", "list", "-o", "yaml"]);
    assert!(out.contains("mac: 02:00:00:00:00:01\n"), "{out}");
    let (_, out, _) = culvert(&root, &["bpf", "lb", "list"]);
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn the_status_without_an_agent_is_what_the_pins_tell() {
    let root = PinRoot::new();
    let datapath = Datapath::open(root.options()).unwrap();
    fill(datapath.maps());
    let cgroup = Cgroup::new();
    datapath.attach_cgroup(cgroup.path()).unwrap();
    drop(datapath);
    let (code, out, err) = culvert(&root, &["status", "-o", "json"]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let left: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(left["ready"], false);
    let why = left["agent"].as_str().unwrap();
    assert!(why.contains("does not answer on `/nowhere.sock`: No such file"), "{why}");
    let counts = serde_json::json!({"servicePorts": 1, "frontends": 2, "backends": 1});
    assert_eq!(left["sync"], counts);
    let fills = left["maps"].as_array().unwrap().iter();
    let used: Vec<_> = fills
        .filter(|map| map["entries"] != 0)
        .map(|map| format!("{} {}", map["name"].as_str().unwrap(), map["entries"]))
        .collect();
    assert_eq!(used, ["services 2", "backends 1", "endpoints 1", "owned 1"]);
    let programs = left["attached"]["cgroup"].as_array().unwrap();
    assert!(programs.contains(&"connect4".into()), "{programs:?}");

    let (code, out, _) = culvert(&root, &["status", "-o", "yaml"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("ready: false\n"), "{out}");
    let (code, out, _) = culvert(&root, &["status"]);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("Agent:                   Not answering: the agent does"), "{out}");
    assert!(out.contains("1 service ports, 2 frontends, 1 backend slots\n"), "{out}");
    let (code, out, err) = culvert(&root, &["status", "--brief"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error: the agent does not answer"), "{err}");
}

#[test]
fn cleanup_leaves_nothing_and_can_be_repeated() {
    let root = PinRoot::new();
    drop(Datapath::open(root.options()).unwrap());
    assert!(root.path().join("maps/services").exists());
    let (code, out, err) = culvert(&root, &["cleanup"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("removed map services\n"), "{out}");
    assert!(!root.path().exists());
    let (code, out, _) = culvert(&root, &["cleanup"]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
}

#[test]
fn the_probe_is_a_table_and_json() {
    let root = PinRoot::new();
    let (code, out, _) = culvert(&root, &["probe", "-o", "json"]);
    assert_eq!(code, Some(0));
    let probe: serde_json::Value = serde_json::from_str(&out).unwrap();
    let names: Vec<_> =
        probe["features"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"btf"), "{names:?}");
    for feature in probe["features"].as_array().unwrap() {
        let told = |field: &str| feature[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(
            feature["present"].is_boolean() && told("neededBy") && told("instead"),
            "{feature}"
        );
    }
    let (_, table, _) = culvert(&root, &["probe"]);
    assert_eq!(table.lines().count(), names.len() + 1, "{table}");
    assert!(table.starts_with("FEATURE "), "{table}");
}
