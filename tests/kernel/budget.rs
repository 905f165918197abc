// SPDX-License-Identifier: Apache-2.0
//! What the verifier has to walk for each program, against a checked-in table.
//!
//! A program that grows past its budget loads more slowly on every node, and one day not at all.

use std::collections::BTreeMap;
use std::fs;

use culvert::datapath::{Datapath, probe};
use libbpf_rs::Program;
use libbpf_rs::query::ProgInfoIter;

use crate::support::pins::PinRoot;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verified_insns.tsv");
const UPDATE: &str = "UPDATE_BUDGET=1 cargo test --test kernel budget";

#[test]
fn every_program_stays_within_its_budget() {
    let measured = measure();
    if std::env::var_os("UPDATE_BUDGET").is_some() {
        let lines: String =
            measured.iter().map(|(name, count)| format!("{name}\t{count}\n")).collect();
        fs::write(TABLE, lines).unwrap();
        return;
    }
    let table = fs::read_to_string(TABLE).unwrap();
    let budget: BTreeMap<&str, u64> = table
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    let known: Vec<&str> = budget.keys().copied().collect();
    let loaded: Vec<&str> = measured.keys().map(String::as_str).collect();
    assert_eq!(known, loaded, "the table has other programs; if that is meant: `{UPDATE}`");

    // The count differs from kernel to kernel; the table is of one of the newest.
    let over: Vec<String> = measured
        .iter()
        .filter(|(name, count)| **count * 10 > budget[name.as_str()] * 11)
        .map(|(name, count)| format!("{name}: {count}, budget {}", budget[name.as_str()]))
        .collect();
    assert!(over.is_empty(), "{over:#?}\nmore than 10 % over; if that is meant: `{UPDATE}`");
}

/// Instructions the verifier walked, by program.
fn measure() -> BTreeMap<String, u64> {
    let root = PinRoot::new();
    let kernel = probe::run(root.path());
    // The kernel tells since 5.16, as old as managed neighbours.
    assert!(kernel.has("managed neighbours"), "{} does not count", kernel.kernel);
    let datapath = Datapath::open(root.options()).unwrap();
    let names: BTreeMap<u32, String> = datapath
        .programs()
        .map(|program| {
            let id = Program::id_from_fd(std::os::fd::AsFd::as_fd(&program)).unwrap();
            (id, program.name().to_string_lossy().into_owned())
        })
        .collect();
    ProgInfoIter::default()
        .filter_map(|info| Some((names.get(&info.id)?.clone(), u64::from(info.verified_insns))))
        .collect()
}
