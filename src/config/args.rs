// SPDX-License-Identifier: Apache-2.0
//! The table of keys as clap arguments, and the reading of environment, file and host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs, io};

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::keys::KEYS;
use super::{Config, DEFAULT_FILE, HostFacts, Inputs};

/// Every configuration flag of a subcommand.
#[derive(Clone, Debug, Default)]
pub struct ConfigArgs {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl ConfigArgs {
    /// No flags but `--config`.
    pub fn of_file(file: Option<PathBuf>) -> Self {
        Self { file, flags: Vec::new() }
    }

    /// Reads environment, file and host and puts them together.
    pub fn load(&self) -> Result<Config> {
        let env: BTreeMap<String, String> = env::vars().collect();
        let named = self.file.clone().or_else(|| env.get("CULVERT_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let file = match fs::read_to_string(&path) {
            Ok(text) => Some((path, text)),
            Err(e) if named.is_none() && e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                return Err(e).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        let inputs = Inputs { flags: self.flags.clone(), env, file, host: HostFacts::read() };
        inputs.resolve().context("the configuration is refused")
    }
}

impl HostFacts {
    /// From `/proc`; what cannot be read stays empty.
    pub fn read() -> Self {
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self { hostname: hostname.trim().to_owned(), cgroup2: cgroup2(&mounts) }
    }
}

/// Where `/proc/self/mounts` says cgroup2 is, our own mount first.
fn cgroup2(mounts: &str) -> Option<PathBuf> {
    let mut found: Option<PathBuf> = None;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(_), Some(at), Some("cgroup2")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if at == "/run/culvert/cgroupv2" {
            return Some(at.into());
        }
        found.get_or_insert_with(|| at.into());
    }
    found
}

impl Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("Configuration file [env: CULVERT_CONFIG] [default: {DEFAULT_FILE}]"));
        let keys = KEYS.iter().map(|key| {
            let default = key.default_text();
            let default =
                if default.is_empty() { default } else { format!(" [default: {default}]") };
            let arg = Arg::new(key.name).long(key.flag).value_name((key.kind)()).help(format!(
                "{} [env: {}]{default}",
                key.doc,
                key.env()
            ));
            if key.is_switch() { arg.num_args(0..=1).default_missing_value("true") } else { arg }
        });
        command.arg(file).args(keys)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &&super::keys::Key| matches.get_one::<String>(key.name).cloned();
        Ok(Self {
            file: matches.get_one::<PathBuf>("config").cloned(),
            flags: KEYS.iter().filter_map(|key| Some((key.name, given(&key)?))).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cgroup_mount_comes_first() {
        let others = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let both = format!("{others}none /run/culvert/cgroupv2 cgroup2 rw 0 0\n");
        assert_eq!(cgroup2(others), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup2(&both), Some("/run/culvert/cgroupv2".into()));
        assert_eq!(cgroup2("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n"), None);
    }
}
