// SPDX-License-Identifier: Apache-2.0
//! Loading, pinning and maps.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use culvert::abi::{Addr, Flow, FlowKey, Owned};
use culvert::datapath::map::{self, Cursor};
use culvert::datapath::{Datapath, LoadError, Maps, Mechanism, Options, XdpMode};
use libbpf_rs::{Link, Program, TC_EGRESS, TC_INGRESS, TcHookBuilder};
use nix::net::if_::if_nametoindex;
use zerocopy::FromZeros as _;

use crate::support::netns::NetNs;
use crate::support::pins::PinRoot;

#[test]
fn every_object_loads() {
    let root = PinRoot::new();
    let datapath = Datapath::open(root.options()).unwrap();
    for name in ["from_container", "from_netdev", "from_overlay", "xdp_entry", "connect4"] {
        assert!(datapath.program(name).is_some(), "{name}");
    }
}

#[test]
fn a_second_open_finds_what_the_first_wrote() {
    let root = PinRoot::new();
    let first = Datapath::open(root.options()).unwrap();
    first.maps().owned.set(&addr(1), &owned(7)).unwrap();
    drop(first);

    let second = Datapath::open(root.options()).unwrap();
    assert_eq!(second.maps().owned.get(&addr(1)).unwrap(), Some(owned(7)));
    drop(second);

    let reader = Maps::open_pinned(root.path()).unwrap();
    assert_eq!(reader.owned.entries().unwrap(), [(addr(1), owned(7))]);
}

#[test]
fn a_map_of_another_size_takes_its_entries_along() {
    let root = PinRoot::new();
    let first = Datapath::open(root.options()).unwrap();
    let entries: Vec<_> = (0..2000).map(|n| (addr(n), owned(n))).collect();
    assert!(first.maps().owned.set_batch(&entries).is_empty());

    let mut options = root.options();
    options.map_sizes.insert("owned".to_owned(), 8192);
    let mut second = Datapath::open(options).unwrap();
    assert_eq!(second.maps().owned.max_entries(), 8192);
    assert_eq!(sorted(second.maps().owned.entries().unwrap()), entries);

    // What the new agent deletes does not come back from the old map: programs only read it.
    second.maps().owned.remove(&addr(1)).unwrap();
    second.settle().unwrap();
    assert_eq!(second.maps().owned.get(&addr(1)).unwrap(), None);

    let pinned = Maps::open_pinned(root.path()).unwrap();
    assert_eq!(pinned.owned.max_entries(), 8192);
}

/// The first one's programs go on until they are swapped: what they add comes along too, at each
/// step of the swap, and does not undo what is newer.
#[test]
fn flows_that_open_during_a_swap_come_along() {
    let root = PinRoot::new();
    let first = Datapath::open(root.options()).unwrap();
    let flow = |created| Flow { created, ..Flow::new_zeroed() };
    let key = |number: u16| FlowKey { sport: number.into(), ..FlowKey::new_zeroed() };
    for map in [&first.maps().flows, &first.maps().flows_new] {
        map.set(&key(1), &flow(1)).unwrap();
    }

    let mut options = root.options();
    for name in ["flows", "flows_new"] {
        options.map_sizes.insert(name.to_owned(), 8192);
    }
    let mut second = Datapath::open(options).unwrap();
    let old = [&first.maps().flows, &first.maps().flows_new];
    let maps = Arc::clone(second.maps());
    let new = [&maps.flows, &maps.flows_new];
    let open_during = |number: u16, step: &mut dyn FnMut()| {
        for (old, new) in old.iter().zip(new) {
            old.set(&key(number), &flow(1)).unwrap();
            old.set(&key(1), &flow(2)).unwrap();
            assert_eq!(new.get(&key(number)).unwrap(), None);
        }
        step();
        for new in new {
            assert_eq!(new.get(&key(number)).unwrap(), Some(flow(1)), "{number}");
            assert_eq!(new.get(&key(1)).unwrap(), Some(flow(1)), "{number}");
        }
    };
    open_during(2, &mut || second.carry_over().unwrap());
    open_during(3, &mut || second.carry_over().unwrap());
    open_during(4, &mut || second.settle().unwrap());
}

/// A connection must not meet the old maps in one direction and the new ones in the other.
#[test]
fn all_devices_go_over_to_replaced_maps_at_once() {
    for force_clsact in [false, true] {
        devices_go_over_at_once(force_clsact);
    }
}

fn devices_go_over_at_once(force_clsact: bool) {
    let (root, node) = (PinRoot::new(), NetNs::new());
    let options = Options { force_clsact, ..root.options() };
    node.ip("link add pod0 type veth peer name uplink0");
    let index = |name| node.run(|| if_nametoindex(name)).unwrap();
    let (pod, uplink) = (index("pod0"), index("uplink0"));
    let first = Datapath::open(options.clone()).unwrap();
    node.run(|| {
        first.attach_pod(pod, "pod0").unwrap();
        first.attach_uplink(uplink, "uplink0").unwrap();
        first.attach_xdp(uplink, "uplink0", XdpMode::Native).unwrap();
    });
    let programs = ["xdp_entry", "from_container", "to_container", "from_netdev", "to_netdev"];
    let attached = |datapath: &Datapath| {
        let ids = programs.iter().map(|name| {
            let program = datapath.program(name).unwrap();
            Program::id_from_fd(program.as_fd()).unwrap()
        });
        let links = std::fs::read_dir(root.path().join("links")).unwrap();
        let links = links.map(|link| Link::open(link.unwrap().path()).unwrap());
        let mut found: BTreeSet<u32> = links.map(|link| link.info().unwrap().prog_id).collect();
        if datapath.mechanism() == Mechanism::Clsact {
            found.extend(
                node.run(|| [pod, uplink].into_iter().flat_map(filters).collect::<Vec<_>>()),
            );
        }
        assert_eq!(found.len(), programs.len());
        found == ids.collect()
    };
    assert!(attached(&first));

    // Over the same maps they follow one by one, each when what it needs is written.
    let second = Datapath::open(options.clone()).unwrap();
    node.run(|| second.catch_up().unwrap());
    assert!(attached(&first));

    let mut options = options;
    options.map_sizes.insert("flows".to_owned(), 8192);
    let third = Datapath::open(options).unwrap();
    assert!(attached(&first), "not before the maps are caught up with");
    node.run(|| third.catch_up().unwrap());
    assert!(attached(&third));
}

/// The programs of a device's filters, on their way in and out.
fn filters(ifindex: u32) -> [u32; 2] {
    [TC_INGRESS, TC_EGRESS].map(|side| {
        let stdin = std::io::stdin();
        let mut hook = TcHookBuilder::new(stdin.as_fd());
        hook.ifindex(ifindex as i32).handle(0xc0).priority(1);
        hook.hook(side).query().unwrap()
    })
}

#[test]
fn a_map_does_not_shrink_below_what_is_in_it() {
    let root = PinRoot::new();
    let first = Datapath::open(root.options()).unwrap();
    let entries: Vec<_> = (0..100).map(|n| (addr(n), owned(n))).collect();
    assert!(first.maps().owned.set_batch(&entries).is_empty());

    let mut options = root.options();
    options.map_sizes.insert("owned".to_owned(), 64);
    let error = Datapath::open(options).unwrap_err();
    assert!(
        matches!(&error, LoadError::Shrunk { map, old: 4096, new: 64, .. } if map == "owned"),
        "{error}"
    );
    let pinned = Maps::open_pinned(root.path()).unwrap();
    assert_eq!(sorted(pinned.owned.entries().unwrap()), entries);
}

#[test]
fn a_pin_of_another_layout_is_named_with_both_layouts() {
    let root = PinRoot::new();
    drop(Datapath::open(root.options()).unwrap());
    let path = root.path().join("maps/owned");
    std::fs::remove_file(&path).unwrap();
    let opts = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
        map_flags: libbpf_rs::libbpf_sys::BPF_F_RDONLY_PROG,
        ..Default::default()
    };
    libbpf_rs::MapHandle::create(libbpf_rs::MapType::Hash, Some("owned"), 16, 12, 4096, &opts)
        .unwrap()
        .pin(&path)
        .unwrap();

    let text = Datapath::open(root.options()).unwrap_err().to_string();
    assert!(text.contains("`owned`"), "{text}");
    assert!(text.contains("16 B -> 12 B") && text.contains("16 B -> 8 B"), "{text}");

    let text = Maps::open_pinned(root.path()).unwrap_err().to_string();
    assert!(text.contains("`owned`") && text.contains("12 B"), "{text}");
}

#[test]
fn a_full_map_says_so_for_each_entry_that_did_not_fit() {
    let root = PinRoot::new();
    let mut options = root.options();
    options.map_sizes.insert("uplinks".to_owned(), 8);
    let datapath = Datapath::open(options).unwrap();
    let uplinks = &datapath.maps().uplinks;
    let entries: Vec<_> = (0..10).map(|n| (n, zero())).collect();

    let failed = uplinks.set_batch(&entries);
    assert_eq!(failed.iter().map(|each| each.key).collect::<Vec<_>>(), [8, 9]);
    for each in &failed {
        assert!(
            matches!(&each.error, map::Error::Full { map, size: 8 } if map == "uplinks"),
            "{}",
            each.error
        );
    }
    assert_eq!(uplinks.entries().unwrap().len(), 8);
}

#[test]
fn a_hundred_thousand_entries_are_all_read_back() {
    let root = PinRoot::new();
    let mut options = root.options();
    options.map_sizes.insert("owned".to_owned(), 100_000);
    let datapath = Datapath::open(options).unwrap();
    let map = &datapath.maps().owned;
    let entries: Vec<_> = (0..100_000).map(|n| (addr(n), owned(n))).collect();
    assert!(map.set_batch(&entries).is_empty());

    assert_eq!(sorted(map.entries().unwrap()), entries);
    assert_eq!(sorted(map.entries_from(Cursor::without_batches()).unwrap()), entries);

    let (gone, kept) = entries.split_at(60_000);
    let mut keys: Vec<_> = gone.iter().map(|(key, _)| *key).collect();
    // Keys that are not there are skipped, wherever they stand.
    keys.insert(30_000, addr(1_000_000));
    assert!(map.remove_batch(&keys).is_empty());
    assert_eq!(sorted(map.entries().unwrap()), kept);
}

#[test]
fn an_array_is_read_whole_and_a_counter_is_summed() {
    let root = PinRoot::new();
    let datapath = Datapath::open(root.options()).unwrap();
    assert_eq!(datapath.maps().target_state.entries().unwrap().len(), 4096);

    let input =
        libbpf_rs::ProgramInput { data_in: Some(&[0_u8; 64]), repeat: 3, ..Default::default() };
    datapath.program("from_overlay").unwrap().test_run(input).unwrap();
    let counters = datapath.maps().counters().unwrap();
    let packets: u64 = counters.iter().map(|(_, _, counter)| counter.packets).sum();
    assert_eq!(packets, 3, "{counters:?}");
}

fn addr(number: u32) -> Addr {
    Addr::from_v4(number.into())
}

fn owned(number: u32) -> Owned {
    Owned { ifindex: number, flags: 0 }
}

fn zero() -> culvert::abi::Uplink {
    zerocopy::FromZeros::new_zeroed()
}

fn sorted(mut entries: Vec<(Addr, Owned)>) -> Vec<(Addr, Owned)> {
    entries.sort_by_key(|(key, _)| *key);
    entries
}
