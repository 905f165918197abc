// SPDX-License-Identifier: Apache-2.0
//! Takes a lab down when the process that made it ends, also by a signal or a panic.
//!
//! The janitor is a shell that waits for the end of its standard input, which only we hold. It
//! kills what is in the lab's cgroup, which nobody else can have put there, and removes the lab's
//! directories. Namespaces and devices go with the processes.

use std::io;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

const SCRIPT: &str = r#"
read -r _
cgroup=$1
for _ in 1 2 3 4 5 6 7 8 9 10; do
    pids=$(find "$cgroup" -name cgroup.procs -exec cat {} +)
    [ -z "$pids" ] && break
    kill -9 $pids 2>/dev/null
    sleep 0.1
done
shift
rm -rf "$@"
find "$cgroup" -depth -type d -exec rmdir {} +
"#;

#[derive(Debug)]
pub struct Janitor {
    shell: Child,
    stdin: Option<ChildStdin>,
}

impl Janitor {
    /// Will remove `directories` and `cgroup` with everything in it.
    pub fn hire(cgroup: &PathBuf, directories: &[&PathBuf]) -> io::Result<Self> {
        // A session of its own: an interrupt from the terminal must not reach it.
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "culvert-lab-janitor"])
            .arg(cgroup)
            .args(directories)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = shell.stdin.take();
        Ok(Self { shell, stdin })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Nothing is left to be done about a janitor that failed.
        let _ = self.shell.wait();
    }
}
