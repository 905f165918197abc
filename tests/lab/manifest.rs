// SPDX-License-Identifier: Apache-2.0
//! Kubernetes objects as the API server would have them.

use std::net::IpAddr;

use anyhow::Result;
use serde_json::{Value, json};

use super::pod::{PORT, Pod};

/// A Service with a TCP and a UDP port of the same number.
#[derive(Clone, Debug, Default)]
pub struct Service {
    pub name: &'static str,
    /// `ClusterIP` when empty.
    pub kind: &'static str,
    /// The last number of its ClusterIPs, `10.96.0.N` and `fd96::N`.
    pub number: u8,
    pub node_port: Option<u16>,
    pub external_ips: Vec<IpAddr>,
    pub ingress: Vec<IpAddr>,
    pub annotations: Vec<(&'static str, &'static str)>,
}

pub const SERVICE_PORT: u16 = 80;

impl Service {
    /// A ClusterIP and nothing else.
    pub const fn plain(name: &'static str, number: u8) -> Self {
        Self {
            name,
            kind: "",
            number,
            node_port: None,
            external_ips: Vec::new(),
            ingress: Vec::new(),
            annotations: Vec::new(),
        }
    }

    pub fn cluster_ip(&self, v6: bool) -> IpAddr {
        let n = self.number;
        let text = if v6 { format!("fd96::{n}") } else { format!("10.96.0.{n}") };
        text.parse().expect("an address")
    }

    /// The Service and one EndpointSlice a family.
    pub fn objects(&self, backends: &[&Pod]) -> Vec<Value> {
        let mut objects = vec![self.object()];
        objects.extend([false, true].map(|v6| self.slice(backends, v6)));
        objects
    }

    fn object(&self) -> Value {
        let ports: Vec<Value> = ["TCP", "UDP"]
            .into_iter()
            .map(|protocol| {
                let mut port = json!({
                    "name": protocol.to_lowercase(),
                    "protocol": protocol,
                    "port": SERVICE_PORT,
                    "targetPort": PORT,
                });
                if let Some(node_port) = self.node_port {
                    port["nodePort"] = node_port.into();
                }
                port
            })
            .collect();
        let ips = [self.cluster_ip(false), self.cluster_ip(true)];
        let kind = if self.kind.is_empty() { "ClusterIP" } else { self.kind };
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "namespace": "lab" },
            "spec": {
                "type": kind,
                "clusterIP": ips[0],
                "clusterIPs": ips,
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "ports": ports,
                "selector": { "app": self.name },
            },
        });
        for (key, value) in &self.annotations {
            service["metadata"]["annotations"][*key] = (*value).into();
        }
        if !self.external_ips.is_empty() {
            service["spec"]["externalIPs"] = json!(self.external_ips);
        }
        if !self.ingress.is_empty() {
            let ingress: Vec<Value> = self.ingress.iter().map(|ip| json!({ "ip": ip })).collect();
            service["spec"]["allocateLoadBalancerNodePorts"] = self.node_port.is_some().into();
            service["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        }
        service
    }

    fn slice(&self, backends: &[&Pod], v6: bool) -> Value {
        let family = if v6 { "IPv6" } else { "IPv4" };
        let endpoints: Vec<Value> = backends
            .iter()
            .filter_map(|pod| {
                Some(json!({
                    "addresses": [pod.ip(v6)?],
                    "conditions": { "ready": true, "serving": true, "terminating": false },
                    "nodeName": pod.node,
                }))
            })
            .collect();
        let port =
            |name: &str| json!({ "name": name.to_lowercase(), "protocol": name, "port": PORT });
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", self.name, family.to_lowercase()),
                "namespace": "lab",
                "labels": { "kubernetes.io/service-name": self.name },
            },
            "addressType": family,
            "endpoints": endpoints,
            "ports": [port("TCP"), port("UDP")],
        })
    }
}

/// One document an object.
pub fn to_yaml(objects: &[Value]) -> Result<String> {
    let documents: Result<Vec<String>, _> = objects.iter().map(serde_saphyr::to_string).collect();
    Ok(documents?.join("\n---\n"))
}
