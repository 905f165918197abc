// SPDX-License-Identifier: Apache-2.0
//! What the lists look like, as a table and as JSON.

use serde_json::json;
use zerocopy::FromZeros as _;

use super::*;
use crate::abi::{
    Addr, BACKEND_LOCAL, BACKEND_TERMINATING, Backend, BackendKey, Counter, Endpoint, Hook,
    Outcome, Service, ServiceKey, ServiceKind, SlotRange, flow_flag, flow_tcp,
};
use crate::view::{example_addr as addr, example_request};

/// A NodePort's request, a datagram and a connection that ends, none of which belongs to another.
fn flows() -> Vec<FlowRow> {
    let request = example_request();
    let (mut key, mut flow) = request;

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

/// A NodePort with one endpoint here and one elsewhere that ends, and a ClusterIP with none.
fn slots() -> Vec<SlotRow> {
    let service = |id, kind: ServiceKind, [outside, inside]: [u16; 2]| {
        let mut service = Service::new_zeroed();
        (service.id, service.generation, service.kind) = (id, 3, kind as u8);
        service.outside = SlotRange { first: 0, count: outside };
        service.inside = SlotRange { first: 0, count: inside };
        service
    };
    let backend = |slot, address, flags, target| {
        let mut backend = Backend::new_zeroed();
        (backend.addr, backend.port) = (addr(address), 8080.into());
        (backend.flags, backend.target) = (flags, target);
        (BackendKey { service: 4, generation: 3, slot }, backend)
    };
    let services = [
        (ServiceKey::new(Addr::V4_WILDCARD, 30202, 6), service(4, ServiceKind::NodePort, [1, 2])),
        (ServiceKey::new(addr("fd96::1"), 53, 17), service(5, ServiceKind::ClusterIp, [0, 0])),
    ];
    let backends =
        [backend(0, "10.1.0.1", BACKEND_LOCAL, 7), backend(1, "10.2.0.1", BACKEND_TERMINATING, 9)];
    slot_rows(&services, &backends)
}

#[test]
fn frontends_have_a_row_a_slot() {
    let rows = slots();
    assert_eq!(
        draw_lb(&rows),
        "\
FRONTEND            TYPE        ID   GENERATION   OUTSIDE   INSIDE   SLOT   BACKEND         FLAGS         TARGET
0.0.0.0:30202/TCP   NodePort    4    3            0+1       0+2      0      10.1.0.1:8080   local         7
0.0.0.0:30202/TCP   NodePort    4    3            0+1       0+2      1      10.2.0.1:8080   terminating   9
[fd96::1]:53/UDP    ClusterIP   5    3            0+0       0+0
"
    );
    assert_eq!(
        serde_json::to_value(&rows[1]).unwrap(),
        json!({
            "frontend": "0.0.0.0:30202/TCP",
            "serviceType": "NodePort",
            "id": 4,
            "generation": 3,
            "outside": "0+1",
            "inside": "0+2",
            "slot": 1,
            "backend": "10.2.0.1:8080",
            "flags": ["terminating"],
            "target": 9,
        })
    );
}

#[test]
fn pods_have_a_row_an_address() {
    let mut endpoint = Endpoint::new_zeroed();
    (endpoint.ifindex, endpoint.netns_cookie) = (9, 4096);
    (endpoint.mac, endpoint.host_mac) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xfe]);
    let known = Endpoint { netns_number: 8, ..endpoint };
    let rows = endpoint_rows(vec![(addr("fd00::5"), endpoint), (addr("10.1.0.5"), known)]);
    assert_eq!(
        draw_endpoints(&rows),
        "\
ADDRESS    IFINDEX   MAC                 HOST MAC            NETNS COOKIE   NETNS ID
10.1.0.5   9         02:00:00:00:00:01   02:00:00:00:00:fe   4096           7
fd00::5    9         02:00:00:00:00:01   02:00:00:00:00:fe   4096           -
"
    );
    assert_eq!(
        serde_json::to_value(&rows[0]).unwrap(),
        json!({
            "address": "10.1.0.5",
            "ifindex": 9,
            "mac": "02:00:00:00:00:01",
            "hostMac": "02:00:00:00:00:fe",
            "netnsCookie": 4096,
            "netnsId": 7,
        })
    );
}
