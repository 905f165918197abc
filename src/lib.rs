// SPDX-License-Identifier: Apache-2.0
//! Culvert: a Kubernetes datapath in eBPF.
//!
//! `culvert` is the agent and its command line, `culvert-cni` the CNI plugin. The plugin is built
//! without the `agent` feature, so that it stays small and links no BPF library.

pub mod cni;

#[cfg(feature = "agent")]
pub mod abi;
#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "agent")]
pub mod cli;
#[cfg(feature = "agent")]
pub mod config;
#[cfg(feature = "agent")]
pub mod datapath;
#[cfg(feature = "agent")]
pub mod ipam;
#[cfg(feature = "agent")]
pub mod k8s;
#[cfg(feature = "agent")]
pub mod lb;
#[cfg(feature = "agent")]
pub mod model;
#[cfg(feature = "agent")]
pub mod route;
#[cfg(feature = "agent")]
pub mod serve;
#[cfg(feature = "agent")]
pub mod skel;
#[cfg(feature = "agent")]
pub mod view;
