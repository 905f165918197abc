// SPDX-License-Identifier: Apache-2.0
//! What the lists look like, as a table and as JSON.

use std::net::IpAddr;

use serde_json::json;
use zerocopy::FromZeros as _;

use super::*;
use crate::abi::{Addr, Counter, Flow, FlowKey, Hook, Outcome, flow_flag, flow_tcp};

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

/// A NodePort's request, a datagram and a connection that ends, none of which belongs to another.
fn flows() -> Vec<FlowRow> {
    let (mut key, mut flow) = (FlowKey::new_zeroed(), Flow::new_zeroed());
    (key.saddr, key.daddr, key.proto, key.zone) = (addr("192.0.2.9"), addr("10.0.0.1"), 6, 2);
    (key.sport, key.dport) = (40000.into(), 30080.into());
    (flow.saddr, flow.daddr, flow.kind) = (addr("10.0.0.1"), addr("10.1.2.3"), 3);
    (flow.sport, flow.dport) = (40000.into(), 8080.into());
    (flow.service, flow.ifindex, flow.last_seen, flow.created) = (4, 2, 990, 900);
    let request = (key, flow);

    (key.saddr, key.daddr, key.proto, key.zone) = (addr("fd00::5"), addr("fd96::1"), 17, 1);
    (key.sport, key.dport) = (5353.into(), 53.into());
    (flow.saddr, flow.daddr, flow.kind) = (addr("fd00::5"), addr("fd00::6"), 2);
    (flow.sport, flow.dport) = (5353.into(), 1053.into());
    (flow.service, flow.ifindex, flow.last_seen, flow.created) = (5, 7, 1000, 1000);
    flow.flags = flow_flag::HAIRPIN | flow_flag::REPLY;
    let datagram = (key, flow);

    (key.proto, flow.tcp_own, flow.flags) = (6, flow_tcp::FIN, flow_flag::XDP);
    flow_rows(vec![(key, flow), request, datagram], 1000)
}

#[test]
fn flows_are_a_row_a_direction() {
    assert_eq!(
        draw_flows(&flows()),
        "\
ZONE   PROTO   SOURCE            DESTINATION      NEW SOURCE       NEW DESTINATION   OUTPUT   IFINDEX   SERVICE   STATE         FLAGS           IDLE
wire   TCP     192.0.2.9:40000   10.0.0.1:30080   10.0.0.1:40000   10.1.2.3:8080     l2       2         4         established                   10s
pod    TCP     [fd00::5]:5353    [fd96::1]:53     [fd00::5]:5353   [fd00::6]:1053    local    7         5         closing       xdp             0s
pod    UDP     [fd00::5]:5353    [fd96::1]:53     [fd00::5]:5353   [fd00::6]:1053    local    7         5         one-way       reply,hairpin   0s
"
    );
}

#[test]
fn flows_are_objects_with_every_field() {
    let json = serde_json::to_value(flows()).unwrap();
    let request = json.as_array().unwrap().iter().find(|row| row["zone"] == "wire").unwrap();
    assert_eq!(
        *request,
        json!({
            "zone": "wire",
            "protocol": "TCP",
            "source": "192.0.2.9:40000",
            "destination": "10.0.0.1:30080",
            "newSource": "10.0.0.1:40000",
            "newDestination": "10.1.2.3:8080",
            "output": "l2",
            "ifindex": 2,
            "service": 4,
            "state": "established",
            "flags": [],
            "idle": 10,
            "age": 107,
        })
    );
}

#[test]
fn counters_are_a_row_a_reason_and_hook() {
    let counters = [
        (Outcome::Forwarded, Hook::FromContainer, Counter { packets: 1234, bytes: 567_890 }),
        (Outcome::DropSpoofed, Hook::FromContainer, Counter { packets: 3, bytes: 180 }),
        (Outcome::DropMalformed, Hook::FromNetdev, Counter { packets: 1, bytes: 34 }),
    ];
    let rows = counter_rows(&counters);
    assert_eq!(
        draw_metrics(&rows),
        "\
REASON           DROPPED   DIRECTION   HOOK             PACKETS   BYTES
forwarded        no        egress      from_container   1234      567890
spoofed_source   yes       egress      from_container   3         180
malformed        yes       ingress     from_netdev      1         34
"
    );
    assert_eq!(
        serde_json::to_value(&rows[1]).unwrap(),
        json!({
            "reason": "spoofed_source",
            "dropped": true,
            "direction": "egress",
            "hook": "from_container",
            "packets": 3,
            "bytes": 180,
        })
    );
}
