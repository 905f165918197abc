// SPDX-License-Identifier: Apache-2.0
//! What a newcomer runs first.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::stage::eventually;

/// `make demo`, once it has built.
#[test]
fn the_demo_reaches_every_service_and_ends_well() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_culvert-lab"));
    let output = demo.arg("demo").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    let of = |client: &str| -> Vec<&str> {
        let lines = said.lines().map(str::trim);
        lines.filter(|line| line.starts_with(client)).collect()
    };
    for client in ["curl http://", "udp "] {
        let visits = of(client);
        // Six kinds of visits in both families.
        assert_eq!(visits.len(), 12, "{visits:#?}");
        let unanswered: Vec<_> = visits
            .iter()
            .filter(|line| !line.contains("web-1 sees ") && !line.contains("web-2 sees "))
            .collect();
        assert!(unanswered.is_empty(), "{unanswered:#?}\n{errors}");
    }
    for word in ["==> n1$ culvert status", "KubeProxyReplacement:", "10.96.0.10:80/TCP"] {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
}

/// `culvert-lab` for one session.
struct Session(tempfile::TempDir);

impl Session {
    fn lab(&self, args: &[&str]) -> Command {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_culvert-lab"));
        lab.args(args).env("CULVERT_LAB_SESSION", self.0.path().join("lab.json"));
        lab.env("SHELL", "/bin/sh").stdin(Stdio::null());
        lab
    }

    fn refused(&self, args: &[&str]) -> String {
        let output = self.lab(args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What a shell in `place` says to `script`.
    fn shell(&self, place: &str, script: &str) -> Output {
        let mut shell = self.lab(&["shell", place]);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        shell.wait_with_output().unwrap()
    }
}

/// Ended with the test, however that ends.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `make lab-up`, `make lab-shell` and `make lab-down`.
#[test]
fn a_lab_stays_up_and_is_entered_until_it_is_taken_down() {
    let session = Session(tempfile::tempdir().unwrap());
    assert!(session.refused(&["shell", "n1"]).contains("no lab is up; raise one"));
    let mut up = Up(session.lab(&["up"]).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(up.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<String> = lines.take_while(|line| !line.starts_with("Ctrl-C")).collect();
    let dir = said[0].split('`').nth(1).expect("where its files are").to_owned();

    for (place, address) in [
        ("n1", " 192.168.50.1/24 "),
        ("n2", " 192.168.50.2/24 "),
        ("outside", " 192.168.50.100/24 "),
        ("web-1", " 10.1."),
    ] {
        assert!(said[1].contains(place), "{said:?}");
        let output = session.shell(place, "ip -o -4 addr show eth0\n");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && shown.contains(address), "{place}: {output:?}");
    }
    let unknown = session.refused(&["shell", "nowhere"]);
    assert!(unknown.contains("there is no `nowhere` in the lab, but client, n1, "), "{unknown}");
    assert!(session.refused(&["up"]).contains("a lab is up already"));

    assert!(session.lab(&["down"]).status().unwrap().success());
    up.0.wait().unwrap();
    assert!(session.refused(&["down"]).contains("no lab is up"));
    eventually("its files are gone", || !Path::new(&dir).exists());
}
