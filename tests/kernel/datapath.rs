// SPDX-License-Identifier: Apache-2.0
//! Loading, pinning and maps.

use culvert::abi::{Addr, Owned};
use culvert::datapath::map::{self, Cursor};
use culvert::datapath::{Datapath, LoadError, Maps};

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

    // The first one's programs go on until they are swapped: what they add comes along too, and
    // does not undo what is newer.
    first.maps().owned.set(&addr(5000), &owned(5000)).unwrap();
    first.maps().owned.set(&addr(1), &owned(99)).unwrap();
    second.settle().unwrap();
    assert_eq!(second.maps().owned.get(&addr(5000)).unwrap(), Some(owned(5000)));
    assert_eq!(second.maps().owned.get(&addr(1)).unwrap(), Some(owned(1)));

    let pinned = Maps::open_pinned(root.path()).unwrap();
    assert_eq!(pinned.owned.max_entries(), 8192);
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
