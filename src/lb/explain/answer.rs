// SPDX-License-Identifier: Apache-2.0
//! The answer as programs read it; the command line draws it.

use serde::{Deserialize, Serialize};

/// Where a client is, as far as the datapath tells clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The node itself, with the pods that use its network.
    Node,
    /// A pod of this node with a network of its own.
    Pod,
    /// Whatever comes in from a network, pods of other nodes too.
    Outside,
}

impl Side {
    pub const ALL: [Self; 3] = [Self::Node, Self::Pod, Self::Outside];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Outside => "outside",
        }
    }
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It gets an endpoint.
    Served,
    /// The client is told at once: an errno, a TCP reset or an ICMP error.
    Refused,
    /// The client waits in vain.
    Dropped,
    /// It is no business of ours: the node's stack or the routing table decides.
    Passed,
}

impl Fate {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Passed => "passed",
        }
    }
}

/// What becomes of connections from some sides, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub from: Vec<Side>,
    /// The programs that decide, in their order, as counters and `monitor` name them.
    pub hooks: Vec<String>,
    pub fate: Fate,
    pub reason: String,
    /// The reason that metrics and `monitor` count it by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counted: Option<String>,
    /// `random` or `maglev`, where there is a choice.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub algorithm: Option<String>,
    /// How packets come to endpoints of other nodes: `SNAT` or `DSR`. None: as they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<String>,
    /// What session affinity gives this client.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remembered: Option<String>,
    /// What is chosen among, `10.0.0.7:8080`.
    pub endpoints: Vec<String>,
}

/// One frontend of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendView {
    /// `10.96.0.1:80/TCP`; `*` stands for `addresses`.
    pub frontend: String,
    pub service_type: String,
    /// Of this node, where the frontend is a wildcard.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub addresses: Vec<String>,
    pub verdicts: Vec<Verdict>,
}

/// An endpoint of a port, whether it counts or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// `10.0.0.7:8080`.
    pub address: String,
    /// Empty where the slice names none.
    pub node: String,
    /// `ready`, `terminating` or `not ready`.
    pub state: String,
    /// Some frontend's clients may get it.
    pub counts: bool,
    /// Why some or all do not.
    pub reason: String,
}

/// One service port in one family: a backend list, and what leads to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    pub port: u16,
    pub protocol: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Of the backend list, as flows and events name it. 0: not written yet.
    pub id: u32,
    pub frontends: Vec<FrontendView>,
    pub endpoints: Vec<EndpointView>,
}

/// A setting that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    pub value: String,
}

/// A frontend that the service asks for and does not get on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unserved {
    pub frontend: String,
    pub service_type: String,
    pub reason: String,
}

/// All about one service or hostPort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `Service default/web`, or the pod that has a hostPort.
    pub subject: String,
    pub rules: Vec<Rule>,
    pub ports: Vec<PortView>,
    pub unserved: Vec<Unserved>,
    pub problems: Vec<String>,
}

/// What is known of the connections that were asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub services: Vec<Explanation>,
    /// What becomes of connections that no frontend takes; empty where one does.
    pub otherwise: Vec<Verdict>,
    pub notes: Vec<String>,
}

impl Answer {
    /// Some client gets an endpoint.
    pub fn serves(&self) -> bool {
        let ports = self.services.iter().flat_map(|service| &service.ports);
        let frontends = ports.flat_map(|port| &port.frontends);
        let mut verdicts = frontends.flat_map(|frontend| &frontend.verdicts);
        verdicts.any(|verdict| verdict.fate == Fate::Served)
    }
}
