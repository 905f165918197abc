// SPDX-License-Identifier: Apache-2.0
//! A kube source that is listened to, and small objects for its server.

use culvert::k8s::kube::{self, Options};
use culvert::model::{Object, ObjectKey, ObjectName};
use serde_json::{Value, json};

use super::listener::{Listener, World};
use crate::support::apiserver::ApiServer;

pub fn options(server: &ApiServer) -> Options {
    let none = "/nonexistent".into();
    Options { host: Some(server.url()), service_account: none, ..Options::new("n1") }
}

pub fn follow(options: Options) -> Listener {
    let (listener, tx, status) = Listener::new();
    tokio::spawn(async move { kube::run(options, tx, status).await.unwrap() });
    listener
}

pub fn port(world: &World, name: &str) -> Option<u16> {
    match world.objects.get(&ObjectKey::Service(ObjectName::new("shop", name)))? {
        Object::Service(service) => Some(service.ports[0].port),
        other => panic!("{other:?}"),
    }
}

pub fn service(name: &str, port: u16) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": port, "protocol": "TCP"}]},
    })
}

pub fn slice(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<_, _> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "addressType": "IPv4", "endpoints": null, "ports": null,
    })
}

pub fn node(name: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "spec": {}})
}

pub fn pod(name: &str, node: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"nodeName": node, "containers": []},
    })
}
