// SPDX-License-Identifier: Apache-2.0
//! The gate of `make bench`: `bench/compare` against made-up results.

#![allow(clippy::unwrap_used)] // A test says so when it cannot go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BASELINE: &str =
    "# a comment\nmachine\there\t-\ntc_ns\t100\tns\ntrips\t1000\t/s\nold_ns\t7\tns\n";

fn bench(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(file)
}

const LIMITS: &str = "# a comment\ntrips\t3000\t/s\n";

/// `now` is `value of tc_ns, value of trips`.
fn compare(machine: &str, now: (u32, u32)) -> Output {
    compare_run(machine, now, &[])
}

fn compare_run(machine: &str, (tc, trips): (u32, u32), more: &[&str]) -> Output {
    let lines = format!(
        "machine\t{machine}\t-\ntc_ns\t{tc}\tns\ntrips\t{trips}\t/s\nunheard_of_ns\t9\tns\n"
    );
    compare_lines(BASELINE, &lines, more)
}

fn compare_lines(before: &str, lines: &str, more: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let [limits, baseline, now] = ["limits", "baseline", "now"].map(|name| dir.path().join(name));
    fs::write(&limits, LIMITS).unwrap();
    fs::write(&baseline, before).unwrap();
    fs::write(&now, lines).unwrap();
    let files = [&bench("peers.txt"), &limits, &baseline, &now];
    Command::new(bench("compare")).args(files).args(more).output().unwrap()
}

#[test]
fn what_is_15_percent_worse_fails() {
    for (now, worse) in [
        ((100, 1000), ""),
        ((114, 900), ""),
        ((50, 2000), ""),
        ((116, 1000), "tc_ns"),
        ((100, 860), "trips"),
        ((300, 10), "tc_ns, trips"),
    ] {
        let output = compare("here", now);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(!worse.is_empty())), "{now:?}: {said}");
        assert_eq!(said.trim().rsplit(": ").next(), Some(worse), "{now:?}");
    }
}

#[test]
fn another_machine_is_told_and_does_not_fail() {
    let output = compare("elsewhere", (300, 10));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("tc_ns, trips") && said.contains("another machine"), "{said}");
}

#[test]
fn what_is_over_its_limit_fails_on_any_machine() {
    for machine in ["here", "elsewhere"] {
        let output = compare(machine, (100, 3001));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.trim(), "over its limit: trips (3000 /s)");
    }
    assert!(compare("here", (100, 3000)).status.success());
}

/// A lookup alone tells what the cache holds for us in this hour.
#[test]
fn what_needs_more_cache_than_there_is_may_take_longer_by_as_much() {
    let lines = |bare, many, one| {
        format!(
            "machine\there\t-\nbare_lookup_ns_16k\t{bare}\tns\ntc_ns_16k\t{many}\tns\ntc_ns\t{one}\tns\n"
        )
    };
    for (bare, many, one, worse) in [
        (50, 114, 100, ""),
        (50, 116, 100, "tc_ns_16k"),
        (100, 228, 100, ""),
        (100, 232, 100, "tc_ns_16k"),
        (100, 100, 116, "tc_ns"),
        (25, 114, 100, ""),
    ] {
        let output = compare_lines(&lines(50, 100, 100), &lines(bare, many, one), &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        let code = i32::from(!worse.is_empty());
        assert_eq!(output.status.code(), Some(code), "{bare} {many} {one}: {said}");
        assert_eq!(said.trim().rsplit(": ").next(), Some(worse), "{bare} {many} {one}");
    }
}

#[test]
fn what_a_whole_run_did_not_measure_fails() {
    let output = compare_run("here", (100, 1000), &["whole"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim(), "of the baseline, not measured: old_ns");
}

#[test]
fn the_table_has_the_ratio_and_the_peer() {
    let table = String::from_utf8(compare("here", (130, 1000)).stdout).unwrap();
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("tc_ns").contains("x1.30!"), "{table}");
    assert!(row("trips").contains("x1.00 "), "{table}");
    assert!(row("unheard_of_ns").contains(" - "), "{table}");

    let output = Command::new(bench("compare"))
        .args(["peers.txt", "limits.txt", "results.txt", "results.txt"].map(bench))
        .output()
        .unwrap();
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    let row = table.lines().find(|line| line.starts_with("pod_to_pod_ns ")).unwrap();
    assert!(row.ends_with("867 Cilium, 110 goal"), "{row}");
    let row = table.lines().find(|line| line.starts_with("xdp_ipip_request_ns ")).unwrap();
    assert!(row.ends_with("365 Cilium, 119 Katran, 110 goal"), "{row}");
}

#[test]
fn nothing_measured_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, "machine\there\t-\n").unwrap();
    let output = Command::new(bench("compare"))
        .args([bench("peers.txt"), bench("limits.txt"), bench("results.txt"), empty])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
