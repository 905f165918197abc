// SPDX-License-Identifier: Apache-2.0
//! The program itself: exit codes, where output goes, and the reference pages it writes.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn culvert(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_culvert"))
        .args(args)
        .env_clear()
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn wrong_usage_exits_with_2_and_says_so_on_stderr() {
    for args in [&["no-such-command"][..], &["service"], &["status", "--brief", "--verbose"]] {
        let output = culvert(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(text(&output.stderr).contains("Usage: culvert"), "{args:?}");
    }
}

#[test]
fn an_agent_that_is_down_exits_with_1_and_a_hint() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("none.sock").display().to_string();
    for command in [&["status"][..], &["status", "--brief"], &["status", "-o", "json"]] {
        let args = [command, &["--socket", &socket, "--bpf-root", "/nowhere"]].concat();
        let output = culvert(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let error = text(&output.stderr);
        assert!(
            error.starts_with(&format!("error: the agent does not answer on `{socket}`\n")),
            "{error}"
        );
        assert!(error.contains("\nhint: "), "{error}");
    }
}

/// What a newcomer gets wrong, in the file, in the environment or as a flag.
#[test]
fn a_mistake_in_the_configuration_is_named_with_its_key_and_what_to_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("c.yaml");
    let refused = |yaml: &str, env: &[(&str, &str)], flags: &[&str]| {
        std::fs::write(&file, yaml).expect("a file");
        let mut agent = Command::new(env!("CARGO_BIN_EXE_culvert"));
        agent.args(["agent", "--config"]).arg(&file).args(flags).env_clear();
        // Should one be accepted, then without a socket it ends before it touches the machine.
        agent.env("CULVERT_SOCKET", "/nowhere/culvert.sock").envs(env.iter().copied());
        let output = agent.output().expect("the binary runs");
        let error = text(&output.stderr).to_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let told = error.strip_prefix("error: the configuration is refused\n  caused by: ");
        told.unwrap_or_else(|| panic!("{error}")).replace(&*file.to_string_lossy(), "FILE")
    };
    for (yaml, told) in [
        (
            "nodePort: {rnage: '1,2'}",
            "unknown key `nodePort.rnage` in `FILE`; did you mean `nodePort.range`?",
        ),
        ("nodePort: true", "unknown key `nodePort` in `FILE`; `nodePort` is a group of keys: "),
        (
            "devices: {eth0: 1}",
            "unknown key `devices.eth0` in `FILE`; `devices` is one key; write LIST after it",
        ),
        (
            "nodePort: {enabled: maybe}",
            "`nodePort.enabled` in `FILE`: `maybe` is neither true nor false",
        ),
        (
            "nodePort: {addresses: [10.0.0.1]}",
            "`nodePort.addresses` in `FILE`: `10.0.0.1` is no CIDR; write it as ",
        ),
        (
            "kubeProxyReplacement: all",
            "`kubeProxyReplacement` in `FILE`: `all` is none of true, partial, false",
        ),
        (
            "logLevel: loud",
            "`logLevel` in `FILE`: `loud` is none of off, error, warn, info, debug, trace",
        ),
        (
            "nodePort: {enabled: false}",
            "`kubeProxyReplacement: true` and `nodePort.enabled: false` cannot be combined: ",
        ),
        (
            "kubeProxyReplacement: true",
            "nothing says where services come from; set `k8sServiceHost`, ",
        ),
    ] {
        let error = refused(yaml, &[], &[]);
        assert!(error.starts_with(told), "{yaml}: {error}");
    }
    for (name, value, told) in [
        (
            "CULVERT_NODEPORT_RANGE",
            "1,2",
            "environment `CULVERT_NODEPORT_RANGE` is no key's; did you mean `CULVERT_NODE_PORT_RANGE`?",
        ),
        (
            "CULVERT_NODE_PORT_RANGE",
            "5",
            "environment `CULVERT_NODE_PORT_RANGE`: `5` is no port range; write it as `30000,32767`",
        ),
        (
            "CULVERT_MTU",
            "",
            "environment `CULVERT_MTU`: it is empty; write NUMBER, or leave it out",
        ),
        ("API_SERVER_PORT", "http", "environment `API_SERVER_PORT`: `http` is no port number"),
    ] {
        let error = refused("", &[(name, value)], &[]);
        assert!(error.starts_with(told), "{name}: {error}");
    }
    for (flags, told) in [
        (["--mtu", "big"], "`--mtu`: `big` is no number"),
        (
            ["--healthz-timeout", "5x"],
            "`--healthz-timeout`: `5x` is no duration; write it as `90s`, ",
        ),
        (
            ["--node-port-enabled", "false"],
            "`kubeProxyReplacement: true` and `nodePort.enabled: false` cannot be combined: ",
        ),
        (
            ["--socket-lb-enabled=no", "--mtu=1400"],
            "`--socket-lb-enabled`: `no` is neither true nor false",
        ),
        (
            ["--ipv6-native-routing-cidr", "fd00::"],
            "`--ipv6-native-routing-cidr`: `fd00::` is no IPv6 CIDR; write it as `fd00::/48`",
        ),
    ] {
        let error = refused("", &[], &flags);
        assert!(error.starts_with(told), "{flags:?}: {error}");
    }
}

#[test]
fn maps_that_are_not_there_exit_with_1_and_name_the_place() {
    let args = ["service", "list", "--socket", "/nowhere.sock", "--bpf-root", "/nowhere"];
    let output = culvert(&args);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.starts_with("error: cannot open the maps below `/nowhere`\n"), "{error}");
}

#[test]
fn version_help_and_completions_go_to_stdout() {
    let version = culvert(&["version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(text(&version.stdout), format!("culvert {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(culvert(&["--version"]).stdout, version.stdout);

    for shell in ["bash", "zsh", "fish"] {
        let script = culvert(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        assert!(text(&script.stdout).contains("monitor"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_culvert"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let status = child.wait().expect("it ends");
    let mut error = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut error).expect("UTF-8");
    assert_eq!((status.code(), error.as_str()), (Some(0), ""));
}

/// `UPDATE=1 cargo test --test cli` writes the pages instead.
#[test]
fn the_reference_pages_are_those_the_program_writes() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    for (name, page) in culvert::cli::pages().expect("pages") {
        let file = dir.join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&dir).expect("docs/reference");
            std::fs::write(&file, &page).expect("a page");
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == page,
            "`{}` is not what the program says; run `cargo run -- docs`",
            file.display()
        );
    }
}

/// A row is a rule, what is done, where it comes from, and links to its tests.
#[test]
fn every_rule_of_the_contract_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/reference/service-semantics.md"));
    let page = page.expect("the page");
    let golden = std::fs::read_to_string(root.join("tests/golden.rs")).expect("scenarios");
    let is_rule = |line: &&str| line.starts_with("| ") && !line.starts_with("| rule |");
    let rules: Vec<&str> = page.lines().filter(is_rule).collect();
    assert!(rules.len() > 50, "{} rules", rules.len());
    let mut wrong = Vec::new();
    for rule in rules {
        let columns: Vec<&str> = rule.trim_matches('|').split(" | ").collect();
        let [name, .., tests] = columns.as_slice() else { panic!("{rule}") };
        let links = tests.split('[').skip(1);
        let links: Vec<(&str, &str)> =
            links.filter_map(|link| link.split_once(")")?.0.split_once("](../../")).collect();
        if columns.len() != 4 || links.is_empty() {
            wrong.push(format!("{name}: {} columns, {} tests", columns.len(), links.len()));
        }
        for (test, path) in links {
            let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            let exists = if path == format!("tests/scenarios/{test}.yaml") {
                !text.is_empty() && golden.contains(&format!("\n    {test},\n"))
            } else {
                text.contains(&format!("fn {test}("))
            };
            if !exists {
                wrong.push(format!("{name}: there is no `{test}` in `{path}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
