// SPDX-License-Identifier: Apache-2.0
//! The rules of the house that no compiler checks: which room may look into which, where `unsafe`
//! lives, how long a file gets, and whose licence it carries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module under `src` and the modules it may name. Pure ones come first.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("abi", &["skel", "model"]),
    ("lb", &["model", "abi"]),
    ("route", &["model", "abi"]),
    ("ipam", &["model", "abi"]),
    ("skel", &[]),
    ("cni", &[]),
    ("k8s", &["model", "config"]),
    ("datapath", &["abi", "skel", "model", "config"]),
    ("config", &["abi", "model"]),
    (
        "agent",
        &["abi", "cni", "config", "datapath", "ipam", "k8s", "lb", "model", "route", "serve"],
    ),
    ("view", &["abi", "model"]),
    ("serve", &["abi", "agent", "cni", "config", "datapath", "lb", "model", "view"]),
    ("cli", &["abi", "agent", "cni", "config", "datapath", "k8s", "lb", "model", "serve", "view"]),
];

const PURE: &[&str] = &["model", "lb", "route", "ipam", "view"];

/// What a pure module would need to touch the world or to read a clock.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::process",
    "std::thread",
    "std::os",
    "std::env",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "Instant",
    "SystemTime",
    "tokio::",
    "nix::",
    "libc::",
    "libbpf_rs",
    "kube::",
];

const LONGEST: usize = 300;

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src", &["rs"]) {
        let Some(module) = module_of(&file) else { continue };
        let allowed = MAY_USE.iter().find(|(name, _)| *name == module).map(|(_, uses)| *uses);
        let Some(allowed) = allowed else {
            wrong.push(format!("{}: module `{module}` is not in the table", file.display()));
            continue;
        };
        for used in crate_modules(&text) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: `{module}` names `{used}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_touch_nothing() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src", &["rs"]) {
        if !module_of(&file).is_some_and(|module| PURE.contains(&module.as_str())) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{number}: `{word}` in a pure module", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_lives_in_the_datapath() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src", &["rs"]) {
        if module_of(&file).as_deref() == Some("datapath") {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                wrong.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside src/datapath:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short_enough_to_hold_in_the_head() {
    let wrong: Vec<_> = all_sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LONGEST)
        .map(|(file, text)| format!("{}: {} lines", file.display(), text.lines().count()))
        .collect();
    assert!(wrong.is_empty(), "longer than {LONGEST} lines:\n{}", wrong.join("\n"));
}

/// One build of every program for every node, and each program whole: what differs between nodes is
/// in `.rodata`, and nothing is reached by a tail call.
#[test]
fn programs_are_built_once_and_call_no_other() {
    // What a header is given by the file that includes it, and a name that old headers lack.
    let allowed = ["CTX", "FROM_WIRE", "IPPROTO_DSTOPTS"];
    let mut wrong = Vec::new();
    for (file, text) in sources("bpf", &["c", "h"]) {
        for (number, line) in text.lines().enumerate() {
            let condition = line.strip_prefix("#if").and_then(|rest| rest.split(' ').nth(1));
            if condition.is_some_and(|name| !allowed.contains(&name)) || line.contains("tail_call")
            {
                wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_source_names_its_licence() {
    let mut wrong = Vec::new();
    for (file, text) in all_sources() {
        let licence = if file.starts_with("bpf") {
            "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
        } else {
            "SPDX-License-Identifier: Apache-2.0"
        };
        // A script's first line is its interpreter.
        if !text.lines().take(2).any(|line| line.contains(licence)) {
            wrong.push(format!("{}: no `{licence}`", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Packages come through the machine's own clients, whichever mirror those use.
#[test]
fn no_file_names_a_package_registry() {
    let hosts = [["crates", "io"], ["pypi", "org"], ["npmjs", "org"], ["npmjs", "com"]]
        .into_iter()
        .chain([["pythonhosted", "org"], ["golang", "org"], ["debian", "org"], ["docker", "io"]])
        .map(|parts| parts.join("."))
        .collect::<Vec<_>>();
    let mut wrong = Vec::new();
    for (file, text) in sources(".", &[]) {
        // Cargo writes its index's name there by itself.
        if file == Path::new("Cargo.lock") {
            continue;
        }
        for host in hosts.iter().filter(|host| text.contains(host.as_str())) {
            wrong.push(format!("{}: `{host}`", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each dependency has its line with a reason, and no line is about one that is gone.
#[test]
fn every_dependency_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let mut section = String::new();
    let mut used = BTreeSet::new();
    for line in read("Cargo.toml").lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once(" = ")
        {
            used.insert(name.to_owned());
        }
    }
    let explained: BTreeSet<String> = read("docs/dependencies.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| {
            cell.replace("(*plugin*)", "").split(", ").map(str::to_owned).collect::<Vec<_>>()
        })
        .map(|name| name.trim().to_owned())
        .filter(|name| name != "crate")
        .collect();
    assert!(used.len() > 20);
    assert_eq!(used, explained);
}

/// Sources of every language we write, wherever they lie; generated headers are not ours.
fn all_sources() -> Vec<(PathBuf, String)> {
    let mut found = sources(".", &["rs", "c", "h", "sh", "py"]);
    found.retain(|(file, _)| {
        file.extension().is_none_or(|ext| ext != "h") || !file.starts_with("vmlinux")
    });
    // Scripts have no extension.
    let mut scripts: Vec<_> = ["scripts", ".ci", "bench", "vmlinux"]
        .into_iter()
        .flat_map(|dir| sources(dir, &[]))
        .collect();
    scripts.retain(|(file, _)| file.extension().is_none());
    found.append(&mut scripts);
    found
}

/// Files below `dir` with one of the extensions (any, when there are none), by path from the root.
fn sources(dir: &str, extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut pending = vec![root.join(dir)];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display())) {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with(".git") {
                    pending.push(path);
                }
                continue;
            }
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            if !extensions.is_empty() && !extensions.contains(&extension.as_ref()) {
                continue;
            }
            // What is not text holds none of what is looked for.
            if let Ok(text) = fs::read_to_string(&path) {
                found.push((path.strip_prefix(root).expect("below the root").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// `src/lb/plan.rs` and `src/lb.rs` are `lb`; the crate's roots are no module.
fn module_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_string_lossy();
    let name = first.strip_suffix(".rs").unwrap_or(&first);
    (!["lib", "main", "bin"].contains(&name)).then(|| name.to_owned())
}

/// The top modules that a file names: `crate::lb`, `crate::{lb, model}`.
fn crate_modules(text: &str) -> BTreeSet<String> {
    let code: String = code_lines(text).map(|(_, line)| format!("{line}\n")).collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(group) => {
                let mut depth = 0;
                let mut item = 0;
                for (offset, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' | ',' if depth == 0 => {
                            found.insert(word(&group[item..]));
                            item = offset + 1;
                            if c == '}' {
                                break;
                            }
                        }
                        '}' => depth -= 1,
                        _ => {}
                    }
                }
            }
        }
    }
    found.remove("");
    found
}

/// Numbered lines without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.find("//").map_or(line, |at| &line[..at])))
}
