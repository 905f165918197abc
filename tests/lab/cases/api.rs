// SPDX-License-Identifier: Apache-2.0
//! An API server of the test's own for the agent of one node.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::lab::node::Node;
use crate::support::apiserver::{ApiServer, Resource};

/// Objects by kind and name; all but nodes are in namespace `lab`.
pub type Objects = BTreeMap<(Resource, String), Value>;

/// Listens on the loopback device of the node whose agent it serves.
pub struct Api {
    pub server: ApiServer,
    runtime: Runtime,
    holds: Objects,
}

impl Api {
    /// The node's agent will ask it after its next start.
    pub fn start(node: &Node) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = node.place.netns.run(|| runtime.block_on(ApiServer::start()));
        node.follow(&server.url()).unwrap();
        Self { server, runtime, holds: Objects::new() }
    }

    /// Deletes, creates and replaces what differs from `objects`, in the order of their names: a watch
    /// tells of the last one when it has told of everything.
    pub fn hold(&mut self, objects: &Objects) {
        for (resource, name) in self.holds.keys().filter(|key| !objects.contains_key(key)) {
            self.server.delete(*resource, "lab", name);
        }
        for (key, object) in objects {
            if self.holds.get(key) != Some(object) {
                self.server.set(object.clone());
            }
        }
        self.holds = objects.clone();
    }

    pub fn go_away(&mut self) {
        self.runtime.block_on(self.server.go_away());
    }

    pub fn come_back(&mut self, node: &Node) {
        let Self { server, runtime, .. } = self;
        node.place.netns.run(|| runtime.block_on(server.come_back()));
    }
}
