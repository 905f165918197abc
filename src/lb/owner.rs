// SPDX-License-Identifier: Apache-2.0
//! Whose frontends and backend lists are planned as one.

use std::fmt;

use super::frontends::frontend_name;
use crate::abi::ServiceKey;
use crate::model::ObjectName;

/// Services come first: an address of a service is never a hostPort's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Service(ObjectName),
    /// A service's `healthCheckNodePort` at the addresses of its load balancer.
    HealthCheck(ObjectName),
    /// The frontend itself: pods come and go behind it.
    HostPort(ServiceKey),
}

impl Owner {
    pub(super) fn is_service(&self) -> bool {
        matches!(self, Self::Service(_))
    }
}

impl From<ObjectName> for Owner {
    fn from(name: ObjectName) -> Self {
        Self::Service(name)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::HealthCheck(name) => write!(f, "healthCheckNodePort of Service {name}"),
            Self::HostPort(key) => write!(f, "hostPort {}", frontend_name(key)),
        }
    }
}
