// SPDX-License-Identifier: Apache-2.0
//! One service in either source, also where it is not ours to serve.

use std::fs;

use culvert::k8s::decode::NotOurs;
use culvert::k8s::kube::{self, Options};
use culvert::k8s::{Found, manifests};
use culvert::model::ObjectName;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::apiserver::ApiServer;

const PROXY: &str = "service.kubernetes.io/service-proxy-name";

fn services() -> Vec<Value> {
    let of = |name: &str, spec: Value, labels: Value| {
        json!({
            "kind": "Service", "apiVersion": "v1", "spec": spec,
            "metadata": {"name": name, "namespace": "shop", "labels": labels},
        })
    };
    let good = json!({"clusterIP": "10.96.0.10", "ports": [{"port": 80}]});
    vec![
        of("web", good.clone(), json!({})),
        of("bodiless", json!({"clusterIP": "None", "ports": [{"port": 80}]}), json!({})),
        of("away", json!({"type": "ExternalName", "externalName": "example.com"}), json!({})),
        of("mesh", good.clone(), json!({PROXY: "mesh"})),
        of("ours", good, json!({PROXY: "culvert"})),
        of("bad", json!({"clusterIP": "10.96.0.300", "ports": [{"port": 80}]}), json!({})),
    ]
}

fn expected() -> Vec<(&'static str, Result<Found, &'static str>)> {
    vec![
        ("web", Ok(Found::Ours)),
        ("bodiless", Ok(Found::NotOurs(NotOurs::Headless))),
        ("away", Ok(Found::NotOurs(NotOurs::ExternalName))),
        ("mesh", Ok(Found::NotOurs(NotOurs::OtherProxy))),
        ("ours", Ok(Found::Ours)),
        ("bad", Err("10.96.0.300")),
        ("nobody", Ok(Found::Nothing)),
    ]
}

fn judge(name: &str, found: Found, expected: Result<Found, &str>) {
    match (found, expected) {
        (Found::Unusable(why), Err(word)) => assert!(why.contains(word), "{name}: {why}"),
        (found, expected) => assert_eq!(Ok(found), expected, "{name}"),
    }
}

#[tokio::test]
async fn an_api_server_is_asked_for_one_service_alone() {
    let server = ApiServer::start().await;
    services().into_iter().for_each(|service| server.set(service));
    let options = Options {
        host: Some(server.url()),
        proxy_name: Some("culvert".to_owned()),
        ..Options::new("n1")
    };
    for (name, expected) in expected() {
        let found = kube::find(options.clone(), &ObjectName::new("shop", name)).await.unwrap();
        judge(name, found, expected);
    }
    // Another namespace's is another service.
    let found = kube::find(options, &ObjectName::new("default", "web")).await.unwrap();
    assert_eq!(found, Found::Nothing);
    let lists = |request: &String| request.contains("fieldSelector=metadata.name");
    assert!(server.requests().iter().all(lists), "{:?}", server.requests());
}

#[test]
fn manifests_are_searched_for_one_service() {
    let dir = TempDir::new().unwrap();
    let all = services();
    let (first, second) = all.split_at(3);
    let text = |services: &[Value]| {
        let all: Vec<String> = services.iter().map(Value::to_string).collect();
        all.join("\n---\n")
    };
    fs::write(dir.path().join("a.yaml"), text(first)).unwrap();
    fs::write(dir.path().join("b.yaml"), text(second)).unwrap();
    for (name, expected) in expected() {
        let of = ObjectName::new("shop", name);
        let found = manifests::find(dir.path(), Some("culvert"), &of).unwrap();
        judge(name, found, expected);
    }
    assert!(
        manifests::find(&dir.path().join("nowhere"), None, &ObjectName::new("a", "b")).is_err()
    );
}
