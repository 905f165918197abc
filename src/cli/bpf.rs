// SPDX-License-Identifier: Apache-2.0
//! `culvert bpf`: the maps, read directly from their pins.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::output::Output;
use super::paths::Paths;
use super::table;
use crate::datapath::host;
use crate::view::{
    CounterRow, EndpointRow, FlowRow, SlotRow, counter_rows, endpoint_rows, flow_rows, slot_rows,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Frontends and the slots of their backend lists
    #[command(subcommand)]
    Lb(List),
    /// Connections that are translated, one row a direction
    #[command(subcommand)]
    Flow(List),
    /// Addresses of this node's pods
    #[command(subcommand)]
    Endpoint(List),
    /// Packets and bytes by what became of them
    #[command(subcommand)]
    Metrics(List),
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum List {
    /// Every entry
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        paths: Paths,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) fn run(command: Command) -> Result<ExitCode> {
    let (List::List { paths, output }, read): (_, fn(&_, Output) -> Result<ExitCode>) =
        match command {
            Command::Lb(list) => (list, lb),
            Command::Flow(list) => (list, flow),
            Command::Endpoint(list) => (list, endpoint),
            Command::Metrics(list) => (list, metrics),
        };
    read(&paths.maps()?, output)
}

type Maps = crate::datapath::Maps;

fn lb(maps: &Maps, output: Output) -> Result<ExitCode> {
    let rows = slot_rows(&maps.services.entries()?, &maps.backends.entries()?);
    output.write(rows.as_slice(), draw_lb)
}

fn draw_lb(rows: &[SlotRow]) -> String {
    let titles = [
        "FRONTEND",
        "TYPE",
        "ID",
        "GENERATION",
        "OUTSIDE",
        "INSIDE",
        "SLOT",
        "BACKEND",
        "FLAGS",
        "TARGET",
    ];
    let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
    table::draw(
        titles,
        rows.iter().map(|row| {
            [
                row.frontend.clone(),
                row.service_type.clone(),
                row.id.to_string(),
                row.generation.to_string(),
                row.outside.clone(),
                row.inside.clone(),
                number(row.slot),
                row.backend.clone(),
                row.flags.join(","),
                number(row.target),
            ]
        }),
    )
}

fn flow(maps: &Maps, output: Output) -> Result<ExitCode> {
    let mut flows = maps.flows.entries()?;
    flows.extend(maps.flows_new.entries()?);
    let rows = flow_rows(flows, host::ticks_now());
    output.write(rows.as_slice(), draw_flows)
}

fn draw_flows(rows: &[FlowRow]) -> String {
    let titles = [
        "ZONE",
        "PROTO",
        "SOURCE",
        "DESTINATION",
        "NEW SOURCE",
        "NEW DESTINATION",
        "OUTPUT",
        "IFINDEX",
        "SERVICE",
        "STATE",
        "FLAGS",
        "IDLE",
    ];
    table::draw(
        titles,
        rows.iter().map(|row| {
            [
                row.zone.clone(),
                row.protocol.clone(),
                row.source.clone(),
                row.destination.clone(),
                row.new_source.clone(),
                row.new_destination.clone(),
                row.output.clone(),
                row.ifindex.to_string(),
                row.service.to_string(),
                row.state.clone(),
                row.flags.join(","),
                format!("{}s", row.idle),
            ]
        }),
    )
}

fn endpoint(maps: &Maps, output: Output) -> Result<ExitCode> {
    let rows = endpoint_rows(maps.endpoints.entries()?);
    output.write(rows.as_slice(), draw_endpoints)
}

fn draw_endpoints(rows: &[EndpointRow]) -> String {
    table::draw(
        ["ADDRESS", "IFINDEX", "MAC", "HOST MAC", "NETNS COOKIE", "NETNS ID"],
        rows.iter().map(|row| {
            [
                row.address.clone(),
                row.ifindex.to_string(),
                row.mac.clone(),
                row.host_mac.clone(),
                row.netns_cookie.to_string(),
                row.netns_id.map_or("-".to_owned(), |id| id.to_string()),
            ]
        }),
    )
}

fn metrics(maps: &Maps, output: Output) -> Result<ExitCode> {
    let counters = maps.counters().context("cannot read the packet counters")?;
    output.write(counter_rows(&counters).as_slice(), draw_metrics)
}

fn draw_metrics(rows: &[CounterRow]) -> String {
    table::draw(
        ["REASON", "DROPPED", "DIRECTION", "HOOK", "PACKETS", "BYTES"],
        rows.iter().map(|row| {
            [
                row.reason.clone(),
                if row.dropped { "yes" } else { "no" }.to_owned(),
                row.direction.clone(),
                row.hook.clone(),
                row.packets.to_string(),
                row.bytes.to_string(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests;
