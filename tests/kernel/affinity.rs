// SPDX-License-Identifier: Apache-2.0
//! sessionAffinity, traffic policies and delegation, one packet at a time.

use culvert::abi::{
    AffinityKey, BACKEND_LOCAL, Outcome, SERVICE_AFFINITY, SERVICE_DELEGATE, ServiceKind, SlotRange,
};

use super::host::{NODE_PORT, node_port};
use crate::support::node::{FAMILIES, Family, Node, TC_DROP, TC_NEXT, ip};
use crate::support::objects::{Frontend, Served, TCP};
use crate::support::packet::{ACK, Packet, SYN, tcp};

const TIMEOUT: u32 = 100;
const CLIENTS: u16 = 24;

/// Ten backends elsewhere.
fn backends(family: Family) -> Vec<String> {
    let prefix = if family.v6 { "fd00:2::" } else { "10.244.2." };
    (1..=10).map(|n| family.at(&format!("{prefix}{n}"), 8080)).collect()
}

fn sticky<'a>(node: &'a Node, frontend: Frontend, backends: &[String]) -> Served<'a> {
    let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
    let service = node.objects.serve(frontend, &backends);
    // A target says where it is in its list.
    for (slot, target) in (0..).zip(service.targets()) {
        let map = &node.objects.maps().target_state;
        let mut state = map.get(&target.index).unwrap().unwrap();
        state.slot = slot;
        map.set(&target.index, &state).unwrap();
    }
    service.change(|service| {
        service.flags |= SERVICE_AFFINITY;
        service.affinity_timeout = TIMEOUT;
    });
    service
}

fn ask(family: Family, from: &str, port: u16) -> Packet {
    tcp(&family.at(from, port), &family.at(family.vip, 80), SYN)
}

fn load_balancer(family: Family) -> Frontend {
    Frontend::cluster_ip(&family.at(family.vip, 80), TCP).kind(ServiceKind::LoadBalancer)
}

#[test]
fn a_client_gets_the_same_backend_until_its_time_is_up() {
    for family in FAMILIES {
        for pod in [false, true] {
            let node = Node::new();
            let service = sticky(&node, load_balancer(family), &backends(family));
            let client = if pod { family.pod } else { family.client };
            let connect = |port| {
                let packet = ask(family, client, port);
                if pod { node.leave_ok(&packet).dst } else { node.wire_ok(&packet).dst }
            };
            let first = connect(1000);
            assert!((1001..1000 + CLIENTS).all(|port| connect(port) == first), "{client}");

            let key = AffinityKey { client: ip(client), service: service.id, pad: 0 };
            let map = &node.objects.maps().affinities;
            let age = |ticks| {
                let mut entry = map.get(&key).unwrap().unwrap();
                entry.last_used = entry.last_used.wrapping_sub(ticks);
                map.set(&key, &entry).unwrap();
                entry.last_used
            };
            // Each new connection starts it anew.
            let aged = age(TIMEOUT - 10);
            assert_eq!(connect(3000), first);
            assert!(map.get(&key).unwrap().unwrap().last_used > aged);
            // One of ten backends each time: not the first, sooner or later.
            let expired = |port| {
                age(TIMEOUT + 10);
                connect(port)
            };
            assert!((4000..4000 + 100).any(|port| expired(port) != first), "{client}");
        }
    }
}

#[test]
fn affinity_ends_with_its_backend_and_keeps_to_the_range() {
    for family in FAMILIES {
        let node = Node::new();
        let service = sticky(&node, load_balancer(family), &backends(family));
        let first = node.wire_ok(&ask(family, family.client, 1000)).dst;
        let slot = service.targets().iter().position(|each| each.address == first).unwrap() as u16;
        // The backend lives, but this client may no longer have it.
        let only = SlotRange { first: (slot + 1) % 10, count: 1 };
        service.change(|service| service.outside = only);
        let other = service.targets()[usize::from(only.first)].address;
        assert_eq!(node.wire_ok(&ask(family, family.client, 1001)).dst, other);
        // The new choice is the one that is kept.
        service.change(|service| service.outside = SlotRange { first: 0, count: 10 });
        assert!((2000..2010).all(|n| node.wire_ok(&ask(family, family.client, n)).dst == other));
    }
}

#[test]
fn a_policy_local_counts_whoever_comes_from_the_wire_as_outside() {
    for family in FAMILIES {
        let node = Node::new();
        let (here, there) = (family.at(family.pod, 8080), family.at(family.remote, 8080));
        let service = node.objects.serve(node_port(family, TCP), &[&here, &there]);
        service.change(|service| service.outside.count = 1);
        let ask =
            |from: &str, port| tcp(&family.at(from, port), &family.at(family.node, NODE_PORT), SYN);
        for from in [family.client, family.remote] {
            let sent = (1000..1010).map(|port| node.wire_ok(&ask(from, port)));
            assert!(sent.into_iter().all(|sent| sent.dst == here.parse().unwrap()
                && sent.src.ip() == from.parse::<std::net::IpAddr>().unwrap()));
        }
        let inside = (1000..1030).map(|port| {
            let packet = ask(family.other_pod, port).bytes();
            Packet::parse(&node.raw("from_container", node.other_pod, &packet).1).dst
        });
        assert!(inside.into_iter().any(|dst| dst == there.parse().unwrap()));

        service.change(|service| service.outside = SlotRange::default());
        assert_eq!(node.wire(&ask(family.remote, 1020)).0, TC_DROP);
        assert_eq!(node.counted(Outcome::DropNoLocal), 1);
    }
}

#[test]
fn a_local_backend_is_delegated_untranslated_for_the_whole_connection() {
    for family in FAMILIES {
        let node = Node::new();
        let (here, there) = (family.at(family.pod, 8080), family.at(family.remote, 8080));
        let service = node.objects.serve(load_balancer(family), &[&here, &there]);
        service.change(|service| service.flags |= SERVICE_DELEGATE);
        let backends = &node.objects.maps().backends;
        for (key, mut backend) in backends.entries().unwrap() {
            backend.flags = if backend.addr == ip(family.pod) { BACKEND_LOCAL } else { 0 };
            backends.set(&key, &backend).unwrap();
        }

        let mut delegated = 0;
        for port in 1000..1000 + CLIENTS {
            let syn = ask(family, family.client, port);
            let (action, frame) = node.wire(&syn);
            if action != TC_NEXT {
                assert_eq!(Packet::parse(&frame).dst, there.parse().unwrap());
                continue;
            }
            delegated += 1;
            assert_eq!(frame, syn.bytes());
            let answer = syn.answer(SYN | ACK).bytes();
            assert_eq!(node.raw("to_netdev", node.uplink, &answer), (TC_NEXT, answer));
            let data = Packet { flags: ACK, ..syn };
            for _ in 0..8 {
                assert_eq!(node.wire(&data), (TC_NEXT, data.bytes()));
            }
            // A tick later it is looked at again where the flow leads.
            node.let_pass(1);
            assert_eq!(node.wire(&data), (TC_NEXT, data.bytes()));
        }
        assert!(delegated > 0 && delegated < CLIENTS, "{delegated}");
    }
}
