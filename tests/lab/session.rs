// SPDX-License-Identifier: Apache-2.0
//! A lab that stays up, and ways into it from other terminals.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::demo::Scene;
use crate::lab::cluster::Options;
use crate::lab::place::{Place, procs};

/// Where `shell` and `down` find the lab that is up. Tests have a place of their own.
fn session_file() -> PathBuf {
    let told = std::env::var_os("CULVERT_LAB_SESSION");
    told.map_or_else(|| "/run/culvert-lab.json".into(), PathBuf::from)
}

#[derive(Serialize, Deserialize)]
struct Session {
    pid: i32,
    /// Network namespace and cgroup of each node and pod.
    places: BTreeMap<String, (PathBuf, PathBuf)>,
}

pub fn up(options: Options) -> Result<()> {
    if running().is_some() {
        bail!("a lab is up already; end it with `make lab-down`");
    }
    let Scene { lab, pods } = Scene::set(options)?;
    let way = |place: &Place| (place.netns.path(), place.cgroup.clone());
    let nodes = lab.nodes.iter().map(|node| (node.name.clone(), way(&node.place)));
    let all = nodes.chain(pods.iter().map(|pod| (pod.name.clone(), way(&pod.place))));
    let mut places: BTreeMap<_, _> = all.collect();
    places.insert("outside".to_owned(), way(&lab.outside));
    let names = places.keys().cloned().collect::<Vec<_>>().join(", ");
    let pid = i32::try_from(std::process::id())?;
    std::fs::write(session_file(), serde_json::to_vec(&Session { pid, places })?)?;

    println!("The lab is up; its files are in `{}`.", lab.dir.display());
    println!("  make lab-shell PLACE=…   with one of {names}");
    println!("  culvert status --config {}/n1/culvert.yaml", lab.dir.display());
    println!("Ctrl-C or `make lab-down` ends it.");
    loop {
        // The janitor takes the lab down when this process ends.
        std::thread::park();
    }
}

pub fn shell(name: &str) -> Result<()> {
    let session = running().context("no lab is up; raise one with `make lab-up`")?;
    let (netns, cgroup) = session.places.get(name).with_context(|| {
        let names: Vec<&str> = session.places.keys().map(String::as_str).collect();
        format!("there is no `{name}` in the lab, but {}", names.join(", "))
    })?;
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let cause = Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .args(["sh", "-c", "echo $$ > \"$0\" && exec \"$1\""])
        .arg(procs(cgroup))
        .arg(shell)
        .exec();
    Err(cause).context("cannot run `nsenter`")
}

pub fn down() -> Result<()> {
    let session = running().context("no lab is up")?;
    kill(Pid::from_raw(session.pid), Signal::SIGTERM)?;
    match std::fs::remove_file(session_file()) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause.into()),
        _ => Ok(()),
    }
}

/// The session whose process is still a lab.
fn running() -> Option<Session> {
    let session: Session = serde_json::from_slice(&std::fs::read(session_file()).ok()?).ok()?;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", session.pid)).ok()?;
    (name.trim() == "culvert-lab").then_some(session)
}
