// SPDX-License-Identifier: Apache-2.0
//! Where a process of the lab runs: a network namespace and a cgroup.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::netns::NetNs;

/// A node, a pod or an outside client.
#[derive(Debug)]
pub struct Place {
    pub netns: NetNs,
    /// Directory in the cgroup2 hierarchy.
    pub cgroup: PathBuf,
}

impl Place {
    /// A fresh namespace with a cgroup of its own.
    pub fn new(cgroup: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&cgroup)?;
        Ok(Self { netns: NetNs::new(), cgroup })
    }

    /// A command that will be in the cgroup. Start it with [`Self::spawn`] or [`Self::output`],
    /// which add the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        // The shell moves itself before there is any socket; `exec` keeps the process id.
        let mut command = Command::new("sh");
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        command.arg("-c").arg(script).arg(procs(&self.cgroup)).arg(program);
        command
    }

    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.netns.run(|| command.spawn())
    }

    pub fn output(&self, command: &mut Command) -> io::Result<std::process::Output> {
        self.netns.run(|| command.output())
    }
}

pub fn procs(cgroup: &Path) -> PathBuf {
    cgroup.join("cgroup.procs")
}
