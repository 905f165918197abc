// SPDX-License-Identifier: Apache-2.0
//! Topology hints: which of the ready endpoints a client on this node should rather get.
//!
//! As kube-proxy 1.34 has it (KEP-2433, KEP-3015): the slices' hints decide, whatever made the
//! controller write them. They count only if every ready endpoint has one, since a list of which a
//! part is hinted is being changed, and only if one of them means us.

use crate::model::Endpoint;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology<'a> {
    Everywhere,
    Node(&'a str),
    Zone(&'a str),
}

impl<'a> Topology<'a> {
    pub(super) fn of<'e>(
        ready: impl Iterator<Item = &'e Endpoint> + Clone,
        node: &'a str,
        zone: Option<&'a str>,
    ) -> Self {
        let node = Self::Node(node);
        let zone = zone.map(Self::Zone);
        let usable = |by: &Self| {
            ready.clone().all(|endpoint| by.is_hinted(endpoint))
                && ready.clone().any(|endpoint| by.prefers(endpoint))
        };
        [Some(node), zone].into_iter().flatten().find(usable).unwrap_or(Self::Everywhere)
    }

    fn is_hinted(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Everywhere => false,
            Self::Node(_) => !endpoint.hint_nodes().is_empty(),
            Self::Zone(_) => !endpoint.hint_zones().is_empty(),
        }
    }

    /// The endpoint is meant for clients here.
    pub(super) fn prefers(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Everywhere => false,
            Self::Node(name) => endpoint.hint_nodes().iter().any(|hint| **hint == **name),
            Self::Zone(name) => endpoint.hint_zones().iter().any(|hint| **hint == **name),
        }
    }
}
