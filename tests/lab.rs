// SPDX-License-Identifier: Apache-2.0
//! The whole system on a cluster of network namespaces: agents, plugin, programs, real sockets.
//!
//! Needs root. Tests that only look share one cluster; those that kill agents have their own.

#![allow(clippy::unwrap_used)] // A test says so when it cannot go on.

#[path = "lab/lib.rs"]
mod lab;

#[path = "lab/client.rs"]
mod client;

#[path = "support"]
mod support {
    #[expect(dead_code, reason = "shared with the source tests, of which this needs a part")]
    pub mod apiserver;
    pub mod interrupt;
    #[expect(dead_code, reason = "shared with the kernel tests")]
    pub mod pins;
}

#[path = "lab/cases"]
mod cases {
    mod accelerated;
    mod addresses;
    mod agent;
    mod apart;
    mod api;
    mod backends;
    mod churn;
    mod clients;
    mod configured;
    mod contract;
    mod demo;
    mod dsr;
    mod dsr_path;
    mod faults;
    mod fire;
    mod full_maps;
    mod health;
    mod host_ips;
    mod host_ports;
    mod kube;
    mod layout;
    mod legacy;
    mod lifecycle;
    mod live;
    mod maglev;
    mod matrix;
    mod memory;
    mod metrics;
    mod modes;
    mod operators;
    mod pods;
    mod reach;
    mod restart;
    mod sctp;
    mod soak;
    mod stage;
}
