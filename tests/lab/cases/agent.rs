// SPDX-License-Identifier: Apache-2.0
//! What the agent says and does about its surroundings.

use std::net::SocketAddr;

use super::stage::{SHARED, Stage, eventually, ip, status};
use crate::lab::manifest::{SERVICE_PORT, Service};

#[test]
fn bad_yaml_is_named_and_the_good_beside_it_goes_on() {
    let stage = &*SHARED;
    let service = Service { name: "good", number: 70, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    stage.lab.publish_text("bad", "kind: Service\nspec: [not, closed").unwrap();
    let problems = || -> Vec<String> {
        let shown = status(stage.lab.node(1));
        let sources = shown["sources"].as_array().unwrap().iter();
        let problems = sources.flat_map(|source| source["problems"].as_array().unwrap());
        problems.map(|problem| problem["subject"].as_str().unwrap().to_owned()).collect()
    };
    eventually("`status` names bad.yaml", || problems().iter().any(|p| p.contains("bad.yaml")));

    let to = SocketAddr::new(service.cluster_ip(false), SERVICE_PORT);
    assert!(stage.ask(&stage.clients[0].place, "tcp", to).is_from("web"));
    stage.serve(&service, &[&stage.far]);
    std::fs::remove_file(stage.lab.manifests().join("bad.yaml")).unwrap();
    eventually("`status` forgets bad.yaml", || problems().is_empty());
}

#[test]
fn nodes_have_no_netfilter_rule() {
    let stage = &*SHARED;
    for node in &stage.lab.nodes {
        for family in ["ip", "ip6"] {
            let path = format!("/proc/net/{family}_tables_names");
            let tables = node.place.netns.run(|| std::fs::read_to_string(path));
            // Without the file the kernel has no iptables at all.
            assert_eq!(tables.unwrap_or_default(), "", "{family} tables of {}", node.name);
        }
        let mut nft = node.place.command("nft");
        let listed = node.place.output(nft.args(["list", "ruleset"])).unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "", "rules of {}", node.name);
    }
}

#[test]
fn the_example_manifest_works_as_it_is() {
    let stage = Stage::raise(1, "");
    assert_eq!(stage.web.ips, ["10.1.1.2", "fd00:10:1::2"].map(ip), "as the example says");
    stage.lab.publish_text("example", include_str!("../../../examples/web.yaml")).unwrap();
    for vip in ["10.96.0.10", "fd96::10", "192.0.2.10", "2001:db8:51::10"] {
        let from = if vip.contains("96") { &stage.clients[0].place } else { &stage.lab.outside };
        let to = SocketAddr::new(ip(vip), SERVICE_PORT);
        stage.ask_until(from, "tcp", to, |outcome| outcome.is_from("web"));
    }
}
