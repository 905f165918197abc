// SPDX-License-Identifier: Apache-2.0
//! What a newcomer runs first.

use std::process::{Command, Stdio};

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
