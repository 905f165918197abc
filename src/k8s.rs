// SPDX-License-Identifier: Apache-2.0
//! Sources of the model: an API server (`kube`) or a directory of the same YAML (`manifests`).
//!
//! Both read the same lean view of the API objects (`wire`) and turn it into model values in the
//! same way (`decode`); both send [`crate::model::Change`]s and report what they cannot use.

pub mod decode;
mod intern;
pub mod kube;
pub mod manifests;
pub mod wire;

/// What a source has under a service's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Ours,
    NotOurs(decode::NotOurs),
    /// With the reason.
    Unusable(String),
}

impl Found {
    fn of(decoded: Result<decode::Decoded, decode::Error>) -> Self {
        match decoded {
            Ok(decode::Decoded::Ours(_)) => Self::Ours,
            Ok(decode::Decoded::NotOurs(_, why)) => Self::NotOurs(why),
            Err(error) => Self::Unusable(error.to_string()),
        }
    }
}
