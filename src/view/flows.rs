// SPDX-License-Identifier: Apache-2.0
//! `culvert bpf flow list`.

use serde::{Deserialize, Serialize};

use super::{address, protocol};
use crate::abi::{Flow, FlowKey, TICK_NANOS, flow_flag, flow_tcp};

/// One direction of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// Where its packets are met: `pod`, `wire`, `overlay` or `host`.
    pub zone: String,
    pub protocol: String,
    pub source: String,
    pub destination: String,
    /// What its packets carry afterwards.
    pub new_source: String,
    pub new_destination: String,
    /// How they leave: `stack`, `local`, `l2`, `tunnel` or `dsr`.
    pub output: String,
    pub ifindex: u32,
    /// As in `culvert service list`.
    pub service: u32,
    /// `new`, `established`, `closing` or, without a connection, `one-way` and `answered`.
    pub state: String,
    pub flags: Vec<String>,
    /// Seconds since its last packet, as the datapath last wrote it down.
    pub idle: u64,
    /// Seconds since its first packet.
    pub age: u64,
}

/// Sorted by key. `now` is in ticks of [`TICK_NANOS`].
pub fn flow_rows(mut flows: Vec<(FlowKey, Flow)>, now: u32) -> Vec<FlowRow> {
    flows.sort_unstable_by_key(|(key, _)| *key);
    flows.iter().map(|(key, flow)| row(key, flow, now)).collect()
}

fn row(key: &FlowKey, flow: &Flow, now: u32) -> FlowRow {
    let seconds = |tick: u32| u64::from(now.saturating_sub(tick)) * TICK_NANOS / 1_000_000_000;
    FlowRow {
        zone: word(&["pod", "wire", "overlay", "host"], key.zone),
        protocol: protocol(key.proto),
        source: address(key.saddr, key.sport.get()),
        destination: address(key.daddr, key.dport.get()),
        new_source: address(flow.saddr, flow.sport.get()),
        new_destination: address(flow.daddr, flow.dport.get()),
        output: word(&["stack", "local", "l2", "tunnel", "dsr"], flow.kind),
        ifindex: flow.ifindex,
        service: flow.service,
        state: state(key, flow).to_owned(),
        flags: flags(flow.flags),
        idle: seconds(flow.last_seen),
        age: seconds(flow.created),
    }
}

/// The enums of the datapath start at one.
fn word(words: &[&str], number: u8) -> String {
    match usize::from(number).checked_sub(1).and_then(|at| words.get(at)) {
        Some(word) => (*word).to_owned(),
        None => number.to_string(),
    }
}

fn state(key: &FlowKey, flow: &Flow) -> &'static str {
    const TCP: u8 = 6;
    let ended = flow_tcp::FIN | flow_tcp::RST;
    match key.proto {
        TCP if (flow.tcp_own | flow.tcp_peer) & ended != 0 => "closing",
        TCP if flow.flags & flow_flag::NEW != 0 => "new",
        TCP => "established",
        _ if flow.replied != 0 => "answered",
        _ => "one-way",
    }
}

fn flags(bits: u16) -> Vec<String> {
    [
        (flow_flag::REPLY, "reply"),
        (flow_flag::HAIRPIN, "hairpin"),
        (flow_flag::XDP, "xdp"),
        (flow_flag::OPTION, "option"),
        (flow_flag::ADDR_ONLY, "address-only"),
        (flow_flag::NEW, "new"),
        (flow_flag::NO_MAC, "no-mac"),
        (flow_flag::OWN_SOURCE, "own-source"),
        (flow_flag::TO_STACK, "to-stack"),
        (flow_flag::DSR, "dsr"),
        (flow_flag::DSR_END, "dsr-end"),
        (flow_flag::UNPROVEN, "unproven"),
    ]
    .into_iter()
    .filter(|(bit, _)| bits & bit != 0)
    .map(|(_, name)| name.to_owned())
    .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::IpAddr;

    use zerocopy::FromZeros as _;

    use super::*;
    use crate::abi::Addr;

    pub(crate) fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    /// Of a connection through a NodePort, as its client sends it.
    pub(crate) fn example_request() -> (FlowKey, Flow) {
        let (mut key, mut flow) = (FlowKey::new_zeroed(), Flow::new_zeroed());
        (key.saddr, key.daddr, key.proto, key.zone) = (addr("192.0.2.9"), addr("10.0.0.1"), 6, 2);
        (key.sport, key.dport) = (40000.into(), 30080.into());
        (flow.saddr, flow.daddr, flow.kind) = (addr("10.0.0.1"), addr("10.1.2.3"), 3);
        (flow.sport, flow.dport) = (40000.into(), 8080.into());
        (flow.service, flow.ifindex, flow.last_seen, flow.created) = (4, 2, 990, 900);
        (key, flow)
    }

    #[test]
    fn a_flow_shows_both_tuples_its_state_and_how_long_it_was_idle() {
        let rows = flow_rows(vec![example_request()], 1000);
        assert_eq!(
            rows,
            [FlowRow {
                zone: "wire".into(),
                protocol: "TCP".into(),
                source: "192.0.2.9:40000".into(),
                destination: "10.0.0.1:30080".into(),
                new_source: "10.0.0.1:40000".into(),
                new_destination: "10.1.2.3:8080".into(),
                output: "l2".into(),
                ifindex: 2,
                service: 4,
                state: "established".into(),
                flags: Vec::new(),
                idle: 10,
                age: 107,
            }]
        );
    }

    #[test]
    fn a_fin_from_either_side_is_closing_and_an_unanswered_datagram_is_one_way() {
        let (mut key, mut flow) = (FlowKey::new_zeroed(), Flow::new_zeroed());
        key.proto = 6;
        flow.tcp_peer = flow_tcp::FIN;
        assert_eq!(state(&key, &flow), "closing");
        key.proto = 17;
        assert_eq!(state(&key, &flow), "one-way");
        flow.replied = 1;
        assert_eq!(state(&key, &flow), "answered");
    }
}
