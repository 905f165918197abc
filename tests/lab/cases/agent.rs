// SPDX-License-Identifier: Apache-2.0
//! What the agent says and does about its surroundings.

use std::net::SocketAddr;

use serde_json::Value;

use super::stage::{SHARED, eventually};
use crate::lab::manifest::{SERVICE_PORT, Service};

#[test]
fn bad_yaml_is_named_and_the_good_beside_it_goes_on() {
    let stage = &*SHARED;
    let service = Service { name: "good", number: 70, ..Service::default() };
    stage.serve(&service, &[&stage.web]);
    stage.lab.publish_text("bad", "kind: Service\nspec: [not, closed").unwrap();
    let problems = || -> Vec<String> {
        let text = stage.lab.node(1).culvert(&["status", "-o", "json"]).unwrap();
        let status: Value = serde_json::from_str(&text).unwrap();
        let sources = status["sources"].as_array().unwrap().iter();
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
