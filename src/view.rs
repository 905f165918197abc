// SPDX-License-Identifier: Apache-2.0
//! Map content as people and programs read it: the rows of every `list`, and events.
//!
//! Pure. The command line and the local API print the same rows, so there is one place that says
//! what a frontend, a backend or a drop is called.

mod counters;
mod difference;
mod endpoints;
mod event;
mod flows;
mod services;

pub use counters::{CounterRow, counter_rows};
pub use difference::DifferenceRow;
pub use endpoints::{EndpointRow, endpoint_rows};
pub use event::{EventView, hook_mask};
pub use flows::{FlowRow, flow_rows};
pub use services::{BackendView, ServiceRow, SlotRow, service_rows, slot_rows};

#[cfg(test)]
pub(crate) use flows::tests::{addr as example_addr, example_request};
#[cfg(test)]
pub(crate) use services::tests::rows as example_services;

use std::net::IpAddr;

use crate::abi::Addr;
use crate::model::Protocol;

/// `10.0.0.1:80` or `[fd00::1]:80`.
fn address(addr: Addr, port: u16) -> String {
    match addr.ip() {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

/// `TCP`, or the number where it has no name here.
fn protocol(number: u8) -> String {
    match Protocol::from_number(number) {
        Some(protocol) => protocol.name().to_owned(),
        None if number == 1 => "ICMP".to_owned(),
        None if number == 58 => "ICMPv6".to_owned(),
        None => number.to_string(),
    }
}
