// SPDX-License-Identifier: Apache-2.0
//! What the plugin and the agent say to each other, as JSON over the agent's socket.
//!
//! Each call is `POST /v1/cni/<name>` with the request as body; the answer is 200 with the reply,
//! or another status with an [`Error`]. `status` may also be asked with GET.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use super::names::Attachment;

/// Error codes of the CNI specification 1.1.0, and our own from 100 on.
pub mod code {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    pub const UNSUPPORTED_FIELD: u32 = 2;
    pub const UNKNOWN_CONTAINER: u32 = 3;
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const IO: u32 = 5;
    pub const DECODE: u32 = 6;
    pub const INVALID_CONFIG: u32 = 7;
    pub const TRY_AGAIN: u32 = 11;
    pub const NOT_AVAILABLE: u32 = 50;
    /// The kernel refused a device, address or route.
    pub const NETLINK: u32 = 100;
    /// The agent refused the call.
    pub const AGENT: u32 = 101;
    /// CHECK found something else than what ADD made.
    pub const CHECK_FAILED: u32 = 102;
}

/// A failure as the runtime wants it. `code` is from [`code`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct Error {
    pub code: u32,
    pub msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    pub fn because(self, cause: impl std::fmt::Display) -> Self {
        Self { details: cause.to_string(), ..self }
    }
}

/// One call, named by the last part of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// First half of ADD: reserves addresses. Not kept across a restart of the agent.
    Allocate(Attachment),
    /// Second half of ADD: the pod's veth stands; when this returns, its packets flow.
    Add(Add),
    /// Releases everything of an attachment. Succeeds when there is nothing.
    Del(Attachment),
    /// Fails unless the attachment has exactly these addresses and its entries are in place.
    Check(Check),
    /// Names every attachment that is not in the list; the plugin then deletes each.
    Gc(Gc),
    Status,
}

impl Call {
    /// The call at `/v1/cni/<name>` with this body.
    pub fn parse(name: &str, body: &[u8]) -> Result<Self, Error> {
        let bad = |cause: serde_json::Error| {
            Error::new(code::DECODE, format!("cannot read the body of `{name}`")).because(cause)
        };
        Ok(match name {
            "allocate" => Self::Allocate(serde_json::from_slice(body).map_err(bad)?),
            "add" => Self::Add(serde_json::from_slice(body).map_err(bad)?),
            "del" => Self::Del(serde_json::from_slice(body).map_err(bad)?),
            "check" => Self::Check(serde_json::from_slice(body).map_err(bad)?),
            "gc" => Self::Gc(serde_json::from_slice(body).map_err(bad)?),
            "status" => Self::Status,
            _ => return Err(Error::new(code::AGENT, format!("there is no call `{name}`"))),
        })
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::Allocate(_) => "allocate",
            Self::Add(_) => "add",
            Self::Del(_) => "del",
            Self::Check(_) => "check",
            Self::Gc(_) => "gc",
            Self::Status => "status",
        }
    }

    /// The body to send.
    pub fn body(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Allocate(body) | Self::Del(body) => serde_json::to_vec(body),
            Self::Add(body) => serde_json::to_vec(body),
            Self::Check(body) => serde_json::to_vec(body),
            Self::Gc(body) => serde_json::to_vec(body),
            Self::Status => Ok(b"{}".to_vec()),
        }
    }
}

/// What the pod's side of the wire is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// At most one a family.
    pub addresses: Vec<PodAddress>,
    /// Of both ends of the veth pair, in bytes.
    pub mtu: u32,
    /// Addresses that a pod sees when it reaches itself through a service. They must resolve to
    /// the host side.
    pub hairpin: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddress {
    pub ip: IpAddr,
    /// Next hop of the default route. No device has it: the pod knows its MAC.
    pub gateway: IpAddr,
}

/// A finished veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    #[serde(flatten)]
    pub attachment: Attachment,
    /// Of the host side.
    pub ifindex: u32,
    /// Of the pod side.
    pub mac: [u8; 6],
    pub host_mac: [u8; 6],
    pub addresses: Vec<IpAddr>,
    pub netns: PathBuf,
    /// `namespace/name` of the pod, from CNI_ARGS, if the runtime said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    #[serde(flatten)]
    pub attachment: Attachment,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gc {
    pub valid: Vec<Attachment>,
}

/// Answer of the agent: which variant follows from the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    Allocation(Allocation),
    Stale(Stale),
    Done {},
}

/// Answer to [`Call::Gc`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    pub stale: Vec<Attachment>,
}
