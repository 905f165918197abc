// SPDX-License-Identifier: Apache-2.0
//! What a source tells the agent.

use std::collections::BTreeMap;
use std::fmt;

use super::{EndpointSlice, Node, ObjectName, Pod, Service};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    EndpointSlice,
    Node,
    Pod,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::Pod];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Pod => "Pod",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Service(Service),
    Slice(EndpointSlice),
    Node(Node),
    Pod(Pod),
}

impl Object {
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Service(service) => ObjectKey::Service(service.name.clone()),
            Self::Slice(slice) => ObjectKey::Slice(slice.name.clone()),
            Self::Node(node) => ObjectKey::Node(node.name.clone()),
            Self::Pod(pod) => ObjectKey::Pod(pod.name.clone()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    Service(ObjectName),
    Slice(ObjectName),
    Node(String),
    Pod(ObjectName),
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "{} {name}", Kind::Service.name()),
            Self::Slice(name) => write!(f, "{} {name}", Kind::EndpointSlice.name()),
            Self::Node(name) => write!(f, "{} {name}", Kind::Node.name()),
            Self::Pod(name) => write!(f, "{} {name}", Kind::Pod.name()),
        }
    }
}

/// One step of a source. After the first [`Change::Listed`] of a kind, that kind has synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Created or changed.
    Set(Object),
    /// Deleted, or no longer ours to serve (a Service that became headless).
    Removed(ObjectKey),
    /// Everything there is of `Kind`: what is not in it is gone.
    Listed(Kind, Vec<Object>),
}

impl Change {
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Set(object) => match object {
                Object::Service(_) => Kind::Service,
                Object::Slice(_) => Kind::EndpointSlice,
                Object::Node(_) => Kind::Node,
                Object::Pod(_) => Kind::Pod,
            },
            Self::Removed(key) => match key {
                ObjectKey::Service(_) => Kind::Service,
                ObjectKey::Slice(_) => Kind::EndpointSlice,
                ObjectKey::Node(_) => Kind::Node,
                ObjectKey::Pod(_) => Kind::Pod,
            },
            Self::Listed(kind, _) => *kind,
        }
    }

    /// As metrics name it.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Removed(_) => "removed",
            Self::Listed(..) => "listed",
        }
    }
}

/// Something a source cannot use. What it replaced stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file and document, the object, or the API server.
    pub subject: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// A source's own condition, for `status` and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// `kube https://10.0.0.1:6443` or `manifests /etc/culvert/manifests`.
    pub name: String,
    /// The last exchange succeeded.
    pub connected: bool,
    pub problems: Vec<Problem>,
    /// In the order of the configuration; none where there is no server.
    pub servers: Vec<Server>,
    /// How often a watch or list ended before its time, by kind and reason.
    pub troubles: BTreeMap<(Kind, &'static str), u64>,
}

/// One of the servers that a source may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pub url: String,
    /// It answered last.
    pub in_use: bool,
    pub failures: u64,
    /// Why it is left aside.
    pub problem: Option<String>,
}
