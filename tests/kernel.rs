// SPDX-License-Identifier: Apache-2.0
//! The datapath against the running kernel. Needs root.
//!
//! Every test has network namespaces, pins and cgroups of its own and leaves nothing behind.

#![allow(clippy::unwrap_used)] // A test says so when it cannot go on.

#[path = "support"]
mod support {
    pub mod netns;
    pub mod pins;
}

#[path = "kernel"]
mod kernel {
    mod attach;
    mod datapath;
    mod netlink;
    mod probe;
}
