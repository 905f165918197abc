// SPDX-License-Identifier: Apache-2.0
//! The same binaries on the kernels we support, booted in QEMU, as many at once as there are
//! processors.
//!
//! What a kernel lacks is written down in `tests/vm/KERNEL.txt` and must be what `culvert probe`
//! says there, neither more nor less; so must be the tests of `tests/vm/selection` that fail on it.
//! Run by `make test-vm`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[test]
fn linux_5_10_degrades_as_probe_says() {
    behaves("5.10", "bullseye-security", r"linux-image-5\.10\.0-[0-9]+-cloud-amd64");
}

#[test]
fn linux_6_1_degrades_as_probe_says() {
    behaves("6.1", "bookworm", r"linux-image-6\.1\.0-[0-9]+-cloud-amd64");
}

#[test]
fn linux_6_12_degrades_as_probe_says() {
    behaves("6.12", "bookworm-security", r"linux-image-6\.12\.[0-9]+\+deb12-cloud-amd64");
}

#[test]
fn the_newest_linux_degrades_as_probe_says() {
    behaves("newest", "trixie-backports", r"linux-binary-[0-9.]+\+deb13-cloud-amd64");
}

/// What `tests/vm/KERNEL.txt` says: `absent FEATURE` and `fails TEST` lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Behaviour {
    absent: BTreeSet<String>,
    fails: BTreeSet<String>,
}

fn behaves(kernel: &str, suite: &str, package: &str) {
    let start = Instant::now();
    let console = boot(kernel, suite, package);
    let found = observed(kernel, &console);
    let expected = expected(kernel);
    print_matrix(kernel, &console, &found, start.elapsed().as_secs());
    assert_eq!(found, expected, "see tests/vm/{kernel}.txt and target/vm/{kernel}.log");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Boots the kernel with every binary and returns what the console said, section by section.
fn boot(kernel: &str, suite: &str, package: &str) -> BTreeMap<String, Section> {
    let output = Command::new(root().join("tests/vm/boot"))
        .args([kernel, suite, package])
        .arg(env!("CARGO_BIN_EXE_culvert"))
        .args(beside(env!("CARGO_BIN_EXE_culvert")))
        .arg(static_plugin())
        .args(test_binaries())
        .output()
        .expect("tests/vm/boot runs");
    let console = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{kernel} did not come to its end: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        tail(&console)
    );
    sections(&console)
}

/// The other programs, where the lab looks for them.
fn beside(culvert: &str) -> Vec<PathBuf> {
    let folder = Path::new(culvert).parent().expect("a program is in a folder");
    ["culvert-cni", "culvert-lab"]
        .map(|name| folder.join(name))
        .into_iter()
        .filter(|path| path.exists())
        .collect()
}

fn static_plugin() -> PathBuf {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    root().join("target").join(triple).join("debug/culvert-cni")
}

/// The integration tests that talk to a kernel, as cargo has built them.
fn test_binaries() -> Vec<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--locked", "--no-run", "--message-format=json"]).current_dir(root());
    cargo.args(["--test", "lab", "--test", "kernel"]);
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "test")
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .collect()
}

/// What one program of the machine said, and how it ended.
#[derive(Debug)]
struct Section {
    text: String,
    status: i32,
}

/// Cuts the console at the frames that tests/vm/init draws.
fn sections(console: &str) -> BTreeMap<String, Section> {
    let mut found = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in console.lines() {
        if let Some(name) = line.strip_prefix("@@ begin ") {
            open = Some((name.to_owned(), String::new()));
        } else if let Some(status) = line.strip_prefix("@@ end ") {
            let (name, text) = open.take().expect("an end has a begin");
            let status = status.trim().parse().expect("an exit status");
            found.insert(name, Section { text, status });
        } else if let Some((_, text)) = &mut open {
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(open.is_none(), "the machine stopped amid a section:\n{}", tail(console));
    found
}

fn observed(kernel: &str, console: &BTreeMap<String, Section>) -> Behaviour {
    let section =
        |name| console.get(name).unwrap_or_else(|| panic!("the machine did not run `{name}`"));
    let mut behaviour = Behaviour { absent: absent(&section("probe").text), ..Default::default() };
    for name in ["kernel", "lab"] {
        let selection = selection(kernel, name);
        if selection.is_empty() {
            continue;
        }
        let Section { text, status } = section(name);
        let summed_up = text.contains("test result: ");
        assert!(summed_up, "{name} broke off, status {status}:\n{}", tail(text));
        let ran: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("test ")).collect();
        for selected in selection {
            let met = ran.iter().any(|test| test.contains(&selected));
            assert!(met, "no test of `{name}` is called `{selected}`, see tests/vm/selection");
        }
        let failed = ran.iter().filter_map(|test| test.strip_suffix(" ... FAILED"));
        behaviour.fails.extend(failed.map(|test| format!("{name}::{test}")));
    }
    behaviour
}

/// What `tests/vm/selection` says of a binary on this kernel.
fn selection(kernel: &str, binary: &str) -> Vec<String> {
    let path = root().join(format!("target/vm/{kernel}.selection"));
    let text = fs::read_to_string(path).expect("what tests/vm/boot selected");
    text.lines()
        .filter_map(|line| line.strip_prefix(binary)?.strip_prefix(' '))
        .map(str::to_owned)
        .collect()
}

/// Names of the features that `culvert probe -o json` found absent.
fn absent(json: &str) -> BTreeSet<String> {
    let start = json.find(['{', '[']).unwrap_or_else(|| panic!("no JSON from probe:\n{json}"));
    let probe: serde_json::Value = serde_json::Deserializer::from_str(&json[start..])
        .into_iter()
        .next()
        .expect("a document")
        .unwrap_or_else(|err| panic!("probe's JSON: {err}\n{json}"));
    let features = probe.get("features").unwrap_or(&probe).as_array().expect("a list of features");
    features
        .iter()
        .filter(|feature| feature["present"] == false)
        .map(|feature| feature["name"].as_str().expect("a feature has a name").to_owned())
        .collect()
}

fn expected(kernel: &str) -> Behaviour {
    let path = root().join(format!("tests/vm/{kernel}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let mut behaviour = Behaviour::default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (what, name) = line.split_once(' ').expect("a word, a blank and a name");
        let set = match what {
            "absent" => &mut behaviour.absent,
            "fails" => &mut behaviour.fails,
            other => panic!("{}: `{other}` is neither `absent` nor `fails`", path.display()),
        };
        set.insert(name.to_owned());
    }
    behaviour
}

fn print_matrix(
    kernel: &str,
    console: &BTreeMap<String, Section>,
    found: &Behaviour,
    seconds: u64,
) {
    let release = console.get("release").map_or("?", |section| section.text.trim());
    println!("{kernel} ({release}), {seconds} s");
    for name in &found.absent {
        println!("  absent {name}");
    }
    for (name, section) in console {
        if let Some(result) = section.text.lines().find(|line| line.starts_with("test result:")) {
            println!("  {name}: {result}");
        }
    }
    for name in &found.fails {
        println!("  fails  {name}");
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
