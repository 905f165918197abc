// SPDX-License-Identifier: Apache-2.0
//! Rows from map entries as the agent writes them.

use super::*;
use crate::abi::{OWNED_LOOPBACK, SERVICE_HAS_ENDPOINTS};
use crate::view::example_addr as addr;

fn service(
    vip: &str,
    port: u16,
    kind: ServiceKind,
    id: u32,
    ranges: [(u16, u16); 2],
) -> (ServiceKey, Service) {
    let [outside, inside] = ranges.map(|(first, count)| SlotRange { first, count });
    let value = Service {
        id,
        generation: 3,
        outside,
        inside,
        flags: SERVICE_HAS_ENDPOINTS,
        kind: kind as u8,
        algorithm: 0,
        affinity_timeout: 0,
        maglev_offset: 0,
        maglev_size: 0,
    };
    (ServiceKey::new(addr(vip), port, 6), value)
}

fn backend(service: u32, slot: u32, ip: &str, port: u16, flags: u16) -> (BackendKey, Backend) {
    let value = Backend {
        addr: addr(ip),
        port: port.into(),
        flags,
        target: slot,
        target_epoch: 1,
        weight: 1,
        pad: 0,
    };
    (BackendKey { service, generation: 3, slot }, value)
}

/// The cluster of notes S000: CoreDNS with two pods, nginx with a NodePort, and more.
pub(crate) fn rows() -> Vec<ServiceRow> {
    let all = |n| [(0, n), (0, n)];
    let services = [
        service("10.107.137.30", 80, ServiceKind::ClusterIp, 4, all(1)),
        service("::ffff:0.0.0.0", 30202, ServiceKind::NodePort, 4, all(1)),
        service("10.96.0.1", 443, ServiceKind::ClusterIp, 1, all(1)),
        service("10.96.0.10", 53, ServiceKind::ClusterIp, 2, all(2)),
        service("fd00:96::10", 53, ServiceKind::ClusterIp, 5, all(0)),
        service("203.0.113.5", 80, ServiceKind::LoadBalancer, 6, [(1, 1), (0, 3)]),
    ];
    let backends = [
        backend(1, 0, "10.16.29.16", 6443, 0),
        backend(2, 0, "10.217.0.171", 53, BACKEND_LOCAL),
        backend(2, 1, "10.217.0.57", 53, 0),
        backend(2, 2, "10.217.0.58", 53, BACKEND_TERMINATING),
        backend(4, 0, "10.217.0.203", 80, 0),
        backend(6, 0, "10.217.1.1", 80, 0),
        backend(6, 1, "10.217.0.1", 80, BACKEND_LOCAL),
        backend(6, 2, "10.217.1.2", 80, 0),
    ];
    let owned = [
        (addr("10.217.0.99"), Owned { ifindex: 3, flags: OWNED_NODEPORT }),
        (addr("10.16.29.16"), Owned { ifindex: 2, flags: OWNED_NODEPORT }),
        (addr("127.0.0.1"), Owned { ifindex: 1, flags: OWNED_LOOPBACK }),
        (addr("fd00::16"), Owned { ifindex: 2, flags: OWNED_NODEPORT }),
    ];
    // The generation that is being replaced must not show.
    let mut backends = backends.to_vec();
    let mut old = backend(1, 1, "10.9.9.9", 1, 0);
    old.0.generation = 2;
    backends.push(old);
    service_rows(&services, &backends, &owned)
}

#[test]
fn a_nodeport_has_a_wildcard_row_and_one_for_each_address_of_its_family() {
    let rows = rows();
    let frontends: Vec<_> = rows
        .iter()
        .filter(|row| row.service_type == "NodePort")
        .map(|row| (row.id, row.service_id, row.frontend.as_str()))
        .collect();
    assert_eq!(
        frontends,
        [
            (4, 4, "0.0.0.0:30202/TCP"),
            (5, 4, "10.16.29.16:30202/TCP"),
            (6, 4, "10.217.0.99:30202/TCP"),
        ]
    );
}

#[test]
fn a_draining_backend_is_shown_as_terminating() {
    let rows = rows();
    let dns = rows.iter().find(|row| row.frontend == "10.96.0.10:53/TCP").unwrap();
    let states: Vec<_> =
        dns.backends.iter().map(|b| (b.address.as_str(), b.state.as_str())).collect();
    assert_eq!(
        states,
        [
            ("10.217.0.171:53/TCP", "active"),
            ("10.217.0.57:53/TCP", "active"),
            ("10.217.0.58:53/TCP", "terminating"),
        ]
    );
}

#[test]
fn where_the_two_sides_differ_there_are_two_rows() {
    let rows = rows();
    let lb: Vec<_> = rows
        .iter()
        .filter(|row| row.service_id == 6)
        .map(|row| (row.frontend.as_str(), row.backends.len()))
        .collect();
    assert_eq!(lb, [("203.0.113.5:80/TCP", 1), ("203.0.113.5:80/TCP/i", 3)]);
}

#[test]
fn a_service_without_backends_keeps_its_row() {
    let rows = rows();
    let v6 = rows.iter().find(|row| row.frontend == "[fd00:96::10]:53/TCP").unwrap();
    assert_eq!(v6.backends, []);
}

#[test]
fn the_map_view_shows_every_slot_and_an_empty_list() {
    let services = [
        service("10.96.0.1", 443, ServiceKind::ClusterIp, 1, [(0, 1), (0, 2)]),
        service("10.96.0.2", 443, ServiceKind::ClusterIp, 2, [(0, 0), (0, 0)]),
    ];
    let backends = [backend(1, 0, "10.0.0.1", 1, BACKEND_LOCAL), backend(1, 1, "10.0.0.2", 1, 0)];
    let rows = slot_rows(&services, &backends);
    let short: Vec<_> =
        rows.iter().map(|r| (r.id, r.slot, r.backend.as_str(), r.inside.as_str())).collect();
    assert_eq!(
        short,
        [
            (1, Some(0), "10.0.0.1:1", "0+2"),
            (1, Some(1), "10.0.0.2:1", "0+2"),
            (2, None, "", "0+0"),
        ]
    );
    assert_eq!(rows[0].flags, ["local"]);
}
