// SPDX-License-Identifier: Apache-2.0
//! Maglev: programs choose from tables as src/lb says, and tables arrive through memory.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use culvert::abi::{SERVICE_AFFINITY, SERVICE_MAGLEV, ticks};
use culvert::datapath::Datapath;
use culvert::lb::maglev::{self, Member};
use libbpf_rs::MapHandle;

use super::host::{NODE_PORT, node_port};
use super::xdp::{XDP_TX, driver};
use crate::support::node::{Family, Node, V4, V6, ip};
use crate::support::objects::{Served, UDP};
use crate::support::packet::{Packet, udp};
use crate::support::pins::PinRoot;

/// As in `support::pins`.
pub const SEED: maglev::Seed = *b"twelve bytes";

const OFFSET: u32 = 400;

fn backends(family: Family, count: u32) -> Vec<String> {
    let base = family.remote.trim_end_matches('5');
    (1..=count).map(|n| family.at(&format!("{base}{n}"), 8080)).collect()
}

fn serve<'n>(node: &'n Node, family: Family, backends: &[String]) -> Served<'n> {
    let names: Vec<&str> = backends.iter().map(String::as_str).collect();
    node.objects.serve(node_port(family, UDP), &names)
}

/// What `table` gives to this client.
fn expected<'b>(
    table: &[u16],
    backends: &'b [String],
    client: &str,
    port: Option<u16>,
) -> &'b String {
    let hash = maglev::hash(&SEED, ip(client), port, NODE_PORT, UDP);
    let place = maglev::place(hash, table.len() as u32);
    &backends[usize::from(table[place as usize])]
}

/// Gives `service` the table of its backends and returns it.
fn give_table(node: &Node, service: &Served<'_>) -> Vec<u16> {
    let members: Vec<Member> = service
        .targets()
        .iter()
        .map(|t| Member { addr: t.address.ip().into(), port: t.address.port(), weight: 1 })
        .collect();
    let table = maglev::table(&members, &SEED);
    node.objects.maps().maglev.write([(OFFSET, &*table)].into_iter()).unwrap();
    service.change(|value| {
        value.algorithm = SERVICE_MAGLEV;
        value.maglev_offset = OFFSET;
        value.maglev_size = table.len() as u32;
    });
    table
}

fn chosen(node: &Node, family: Family, client: &str, port: u16) -> String {
    let request = udp(&family.at(client, port), &family.at(family.node, NODE_PORT));
    node.wire_ok(&request).dst.to_string()
}

#[test]
fn tc_and_xdp_of_two_nodes_choose_what_the_table_says() {
    for (family, count) in [(V4, 7), (V6, 7), (V4, 40)] {
        let [one, two] = [(), ()].map(|()| Node::new());
        let backends = backends(family, count);
        // Slots are a node's own.
        let reversed: Vec<String> = backends.iter().rev().cloned().collect();
        let here = serve(&one, family, &backends);
        let there = serve(&two, family, &reversed);
        let (table, other) = (give_table(&one, &here), give_table(&two, &there));
        assert_eq!(table.len() > 2999, count > 30);
        assert_ne!(table, other);

        let mut seen = BTreeSet::new();
        for port in 1000..1200 {
            let backend = expected(&table, &backends, family.client, Some(port));
            assert_eq!(backend, expected(&other, &reversed, family.client, Some(port)));
            assert_eq!(chosen(&one, family, family.client, port), *backend, "tc, port {port}");

            let request = udp(&family.at(family.client, port), &family.at(family.node, NODE_PORT));
            let (action, frame) = driver(&two, &request.bytes());
            assert_eq!(action, XDP_TX, "{:?}", two.outcomes());
            assert_eq!(Packet::parse(&frame).dst.to_string(), *backend, "XDP, port {port}");
            seen.insert(backend);
        }
        assert!(seen.len() > count as usize * 3 / 4, "{} of {count}", seen.len());
    }
}

#[test]
fn with_affinity_the_clients_port_does_not_matter_and_what_it_had_goes_first() {
    let node = Node::new();
    let backends = backends(V4, 7);
    let service = serve(&node, V4, &backends);
    let table = give_table(&node, &service);
    service.change(|value| {
        value.flags |= SERVICE_AFFINITY;
        value.affinity_timeout = ticks(Duration::from_secs(600));
    });
    for client in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
        for port in [1000, 2000, 3000] {
            let backend = expected(&table, &backends, client, None);
            assert_eq!(chosen(&node, V4, client, port), *backend);
        }
    }
    let other = vec![6_u16; table.len()];
    node.objects.maps().maglev.write([(OFFSET, &*other)].into_iter()).unwrap();
    let kept = expected(&table, &backends, "192.0.2.7", None);
    assert_ne!(*kept, backends[6]);
    assert_eq!(chosen(&node, V4, "192.0.2.7", 4000), *kept);
    let request = udp(&V4.at("192.0.2.7", 5000), &V4.at(V4.node, NODE_PORT));
    assert_eq!(Packet::parse(&driver(&node, &request.bytes()).1).dst.to_string(), *kept);
    assert_eq!(chosen(&node, V4, "192.0.2.10", 1000), backends[6], "a new client");
}

#[test]
fn clients_inside_choose_by_chance() {
    let node = Node::new();
    let backends = backends(V4, 7);
    let service = serve(&node, V4, &backends);
    let table = give_table(&node, &service);
    let one = vec![3_u16; table.len()];
    node.objects.maps().maglev.write([(OFFSET, &*one)].into_iter()).unwrap();
    let ask = |port| udp(&V4.at(V4.pod, port), &V4.at(V4.node, NODE_PORT));
    let seen: BTreeSet<String> =
        (1000..1100).map(|port| node.leave_ok(&ask(port)).dst.to_string()).collect();
    assert_eq!(seen.len(), 7);
    assert_eq!(chosen(&node, V4, V4.client, 1000), backends[3]);
}

#[test]
fn a_table_that_does_not_fit_its_service_leaves_the_choice_to_chance() {
    let node = Node::new();
    let service = serve(&node, V4, &backends(V4, 7));
    give_table(&node, &service);
    let wrong = vec![700_u16; 2999];
    node.objects.maps().maglev.write([(OFFSET, &*wrong)].into_iter()).unwrap();
    let seen: BTreeSet<String> =
        (1000..1100).map(|port| chosen(&node, V4, V4.client, port)).collect();
    assert_eq!(seen.len(), 7);

    let beyond = node.objects.maps().maglev.max_entries() * 4;
    service.change(|value| value.maglev_offset = beyond);
    let seen: BTreeSet<String> =
        (2000..2100).map(|port| chosen(&node, V4, V4.client, port)).collect();
    assert_eq!(seen.len(), 7);
}

#[test]
fn tables_are_read_back_as_they_were_written_and_only_inside_the_map() {
    let node = Node::new();
    let maglev = &node.objects.maps().maglev;
    let slots = maglev.max_entries() * 4;
    let (first, last): (Vec<u16>, Vec<u16>) = ((1..=2999).collect(), (5..=8000).collect());
    let end = slots - last.len() as u32;
    maglev.write([(end, &*last), (4, &*first)].into_iter()).unwrap();
    assert_eq!(maglev.read(4, 2999).unwrap(), first);
    assert_eq!(maglev.read(end, last.len() as u32).unwrap(), last);
    assert_eq!(maglev.read(0, 4).unwrap(), [0; 4]);
    let error = maglev.write([(end + 4, &*last)].into_iter()).unwrap_err().to_string();
    assert!(error.contains("map `maglev` is full"), "{error}");
}

/// Whether this process has a map's memory, from the slot `first` on, where it may write.
fn has_window(first: u32) -> bool {
    let offset = format!(" rw-s {:08x} ", first * 2);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| line.contains(&offset) && line.ends_with("bpf-map"))
}

#[test]
fn tables_are_written_through_the_maps_own_memory() {
    /// Slots of a page, and a page that no other test of this process begins with.
    const PAGE: u32 = 2048;
    const FIRST: u32 = 37 * PAGE;
    let node = Node::new();
    let maglev = &node.objects.maps().maglev;
    let (one, two) = (vec![7; 400], vec![8; 400]);
    let seen = std::cell::RefCell::new(Vec::new());
    // Asked for the second table, the writer has stored the first: no call was needed.
    let tables = [(FIRST, &*one), (FIRST + PAGE, &*two)].into_iter();
    let tables = tables.inspect(|_| seen.borrow_mut().push(has_window(FIRST)));
    maglev.write(tables).unwrap();
    assert_eq!(seen.borrow()[seen.borrow().len() - 2..], [true, true], "{seen:?}");
    assert!(!has_window(FIRST), "left open");
    assert_eq!(maglev.read(FIRST + PAGE, 400).unwrap(), two);
}

/// 10,000 tables of ten backends each are 7,500,000 entries.
#[test]
fn a_map_of_the_default_size_takes_less_than_64_megabytes() {
    let root = PinRoot::new();
    let mut options = root.options();
    options.map_sizes.insert("maglev".to_owned(), 7_900_000);
    drop(Datapath::open(options).unwrap());
    let map = MapHandle::from_pinned_path(root.path().join("maps/maglev")).unwrap();
    let number = map.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")).unwrap();
    let bytes: u64 = bytes.trim().parse().unwrap();
    assert!((63_000_000..=64_000_000).contains(&bytes), "{bytes}");
}
