// SPDX-License-Identifier: Apache-2.0
//! Sources against what a real API server said, a test API server, and a directory of files.

#![allow(clippy::unwrap_used)] // A test says so when it cannot go on.

#[path = "support"]
mod support {
    #[expect(dead_code, reason = "shared with the lab, which needs more of it")]
    pub mod apiserver;
}

#[path = "sources"]
mod sources {
    mod find;
    mod fixtures;
    mod kube;
    mod listener;
    mod manifests;
    mod objects;
    mod servers;
    mod tls;
}
