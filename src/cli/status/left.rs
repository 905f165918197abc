// SPDX-License-Identifier: Apache-2.0
//! What `culvert status` says without an agent: what it left behind, which goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::draw::COLUMN;
use super::verbose;
use crate::agent::status::MapFill;
use crate::datapath::map::{Error, Plain};
use crate::datapath::{Map, Maps, attach};

/// Read from pinned maps and links. What has a counterpart in the agent's status is called the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Left {
    pub(super) ready: bool,
    /// Why the agent does not answer.
    pub(super) agent: String,
    pub(super) bpf_root: String,
    pub(super) sync: Counts,
    /// Addresses of this node's pods.
    pub(super) pod_addresses: u64,
    pub(super) maps: Vec<MapFill>,
    /// Programs by device, `cgroup` for those that see sockets.
    pub(super) attached: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// Service ports, each family by itself: maps do not know the services' names.
    pub(super) service_ports: u64,
    pub(super) frontends: u64,
    /// Slots of backend lists.
    pub(super) backends: u64,
}

/// `why` the agent does not answer.
///
/// # Errors
/// Nothing is pinned below `root`, or it cannot be read.
pub(super) fn read(root: &Path, why: &anyhow::Error) -> Result<Left> {
    let maps = Maps::open_pinned(root)
        .with_context(|| format!("cannot open the maps below `{}`", root.display()))?;
    let services = maps.services.entries()?;
    let ids: BTreeSet<u32> = services.iter().map(|(_, service)| service.id).collect();
    let fills = fills(&maps)?;
    let entries = |name: &str| fills.iter().find(|fill| fill.name == name).map_or(0, |f| f.entries);
    Ok(Left {
        ready: false,
        agent: format!("{why:#}"),
        bpf_root: root.display().to_string(),
        sync: Counts {
            service_ports: ids.len() as u64,
            frontends: services.len() as u64,
            backends: entries("backends"),
        },
        pod_addresses: entries("endpoints"),
        maps: fills,
        attached: attach::attached(root)?,
    })
}

/// Every map that counts entries; of arrays only their owner knows which are in use.
fn fills(maps: &Maps) -> Result<Vec<MapFill>, Error> {
    Ok(vec![
        fill(&maps.services)?,
        fill(&maps.backends)?,
        fill(&maps.flows)?,
        fill(&maps.flows_new)?,
        fill(&maps.endpoints)?,
        fill(&maps.owned)?,
        fill(&maps.uplinks)?,
        fill(&maps.vips)?,
        fill(&maps.source_ranges)?,
        fill(&maps.affinities)?,
        fill(&maps.clients)?,
        fill(&maps.xdp_devices)?,
        fill(&maps.xdp_vlans)?,
        fill(&maps.nodes)?,
    ])
}

fn fill<K: Plain, V: Plain>(map: &Map<K, V>) -> Result<MapFill, Error> {
    let (entries, max_entries) = (map.count(|_, _| true)?, map.max_entries().into());
    Ok(MapFill { name: map.name().to_owned(), entries, max_entries })
}

pub(super) fn lines(left: &Left) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<COLUMN$}{value}", format!("{label}:"));
    };
    line("Agent", &format!("Not answering: {}", left.agent));
    line("Datapath", &format!("Forwards by what is pinned below `{}`", left.bpf_root));
    let Counts { service_ports, frontends, backends } = &left.sync;
    let counts =
        format!("{service_ports} service ports, {frontends} frontends, {backends} backend slots");
    line("Services", &counts);
    line("Pods", &format!("{} addresses on this node", left.pod_addresses));
    if left.attached.is_empty() {
        line("Programs", "No pinned links (below Linux 6.6 filters of devices have none)");
    }
    for (device, programs) in &left.attached {
        let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
        line("Programs", &format!("{device}: {}", programs.join(" ")));
    }
    text.push_str(&verbose::maps(&left.maps));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_say_why_and_what_is_left() {
        let map = MapFill { name: "services".into(), entries: 5, max_entries: 50 };
        let programs = ["from_netdev", "to_netdev"].map(str::to_owned);
        let left = Left {
            agent: "nobody is there".into(),
            bpf_root: "/sys/fs/bpf/culvert".into(),
            sync: Counts { service_ports: 2, frontends: 5, backends: 4 },
            pod_addresses: 3,
            maps: vec![map],
            attached: [("eth0".to_owned(), programs.into())].into(),
            ..Left::default()
        };
        let expected = "\
Agent:                   Not answering: nobody is there
Datapath:                Forwards by what is pinned below `/sys/fs/bpf/culvert`
Services:                2 service ports, 5 frontends, 4 backend slots
Pods:                    3 addresses on this node
Programs:                eth0: from_netdev to_netdev
Maps:
  Map        Entries   Max   Fill
  services   5         50    10 %
";
        assert_eq!(lines(&left), expected);
        let none = Left { attached: BTreeMap::new(), ..left };
        assert!(lines(&none).contains("Programs:                No pinned links"));
    }
}
