// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with an object.

use std::fmt;

use ::kube::api::ObjectMeta;
use thiserror::Error;

/// An object that cannot be used, and the first field that makes it so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{field}` {fault}")]
pub struct Error {
    /// `Service shop/web`.
    pub object: String,
    /// `spec.ports[0].port`.
    pub field: String,
    pub fault: Fault,
}

impl Error {
    pub(super) fn new(
        kind: &'static str,
        meta: &ObjectMeta,
        field: impl Into<String>,
        fault: Fault,
    ) -> Self {
        let name = meta.name.as_deref().unwrap_or("(no name)");
        let object = match meta.namespace.as_deref() {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        Self { object, field: field.into(), fault }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Missing,
    NotAnAddress(String),
    NotACidr(String),
    WrongFamily {
        value: String,
        expected: &'static str,
    },
    OutOfRange {
        value: i64,
        min: i64,
        max: i64,
    },
    Unknown {
        value: String,
        expected: &'static str,
    },
    Duplicate(String),
    /// A service that no client could reach, whatever its endpoints.
    NoFrontend,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::NotAnAddress(value) => write!(f, "is `{value}`, not an IP address"),
            Self::NotACidr(value) => {
                write!(f, "is `{value}`, not a range of addresses such as `10.0.0.0/8`")
            }
            Self::WrongFamily { value, expected } => {
                write!(f, "is `{value}`, not an {expected} address as `addressType` says")
            }
            Self::OutOfRange { value, min, max } => {
                write!(f, "is {value}, not a number from {min} to {max}")
            }
            Self::Unknown { value, expected } => write!(f, "is `{value}`, not {expected}"),
            Self::Duplicate(value) => write!(f, "names `{value}` a second time"),
            Self::NoFrontend => f.write_str(
                "names no address: set `spec.clusterIP`, `spec.externalIPs` or a `nodePort`",
            ),
        }
    }
}
