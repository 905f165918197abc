// SPDX-License-Identifier: Apache-2.0
//! What Culvert knows of the cluster: services, endpoint slices, nodes and pods.
//!
//! No Kubernetes API type and no kernel type appears here. Sources (`k8s`) produce these values,
//! the pure modules (`lb`, `route`, `ipam`) consume them.

mod change;
mod name;
mod node;
mod pod;
mod service;
mod slice;

pub use change::{Change, Kind, Object, ObjectKey, Problem, Server, SourceStatus};
pub use name::ObjectName;
pub use node::{AddressKind, Node, NodeAddress};
pub use pod::{HostPort, Pod};
pub use service::{
    IngressAddress, Protocol, Service, ServicePort, ServiceType, TrafficDistribution, TrafficPolicy,
};
pub use slice::{Endpoint, EndpointSlice, Hints, SlicePort};
