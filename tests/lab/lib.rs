// SPDX-License-Identifier: Apache-2.0
//! A cluster in network namespaces, on one machine and touching nothing of it.
//!
//! ```text
//!            outside            a client that is no part of the cluster
//!               │ eth0
//!   ┌───────────┴───────────┐
//!   │ fabric: bridge br0    │   192.168.50.0/24, fd50::/64
//!   └───┬───────────────┬───┘
//!       │ eth0          │ eth0
//!   ┌───┴────┐      ┌───┴────┐  nodes: `culvert agent`, its bpffs root and cgroup
//!   │   n1   │      │   n2   │  10.1.N.0/24, fd00:10:N::/64
//!   └─┬────┬─┘      └─┬────┬─┘
//!     │lxc…│lxc…      │    │
//!    pod  pod        pod  pod   made by `culvert-cni`
//! ```
//!
//! The lab plays kubelet and API server: it calls the plugin with the configuration that the agent
//! wrote, and puts Kubernetes YAML into the directory that the agents watch. Everything belongs to
//! this process: a janitor takes it down when the process ends, however it ends.

#[path = "../support/netns.rs"]
mod netns;

pub mod cluster;
pub mod janitor;
pub mod manifest;
pub mod node;
pub mod place;
pub mod pod;
