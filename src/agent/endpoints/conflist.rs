// SPDX-License-Identifier: Apache-2.0
//! The network configuration that tells a container runtime to use the plugin.
//!
//! A runtime takes its being there for "pods can start", so the control loop writes it when the
//! agent is ready, and not before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::store::replace;
use crate::cni::protocol::{NEWEST, VERSIONS};

/// Runtimes take the first name of the directory.
pub const FILE_NAME: &str = "05-culvert.conflist";

/// Added to the names of other networks' configurations under `cni.exclusive`.
const BACKUP: &str = "culvert_bak";

#[derive(Clone, Debug)]
pub struct Conflist {
    /// Where the runtime looks, `/etc/cni/net.d`.
    pub dir: PathBuf,
    pub socket: PathBuf,
    pub state_dir: PathBuf,
    /// Moves the configurations of other networks out of the way.
    pub exclusive: bool,
}

impl Conflist {
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    pub fn content(&self) -> Value {
        json!({
            "cniVersion": NEWEST,
            "cniVersions": VERSIONS,
            "name": "culvert",
            "plugins": [{
                "type": "culvert-cni",
                "socket": self.socket,
                "stateDir": self.state_dir,
            }],
        })
    }

    /// Writes the configuration unless it is there as it should be. True when it was written.
    pub fn install(&self) -> io::Result<bool> {
        fs::create_dir_all(&self.dir)?;
        if self.exclusive {
            self.move_others()?;
        }
        let path = self.path();
        let wanted = serde_json::to_string_pretty(&self.content())?.into_bytes();
        if fs::read(&path).is_ok_and(|found| found == wanted) {
            return Ok(false);
        }
        replace(&path, Ok(wanted))?;
        Ok(true)
    }

    fn move_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let theirs = path.file_name().is_some_and(|name| name != FILE_NAME);
            if theirs && is_configuration(&path) {
                let mut backup = path.clone().into_os_string();
                backup.push(".");
                backup.push(BACKUP);
                fs::rename(&path, backup)?;
            }
        }
        Ok(())
    }
}

fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("conf" | "conflist" | "json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflist(dir: &Path, exclusive: bool) -> Conflist {
        Conflist {
            dir: dir.to_owned(),
            socket: "/run/culvert/culvert.sock".into(),
            state_dir: "/run/culvert".into(),
            exclusive,
        }
    }

    #[test]
    fn an_unchanged_configuration_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(conflist(dir.path(), false).install().unwrap());
        assert!(!conflist(dir.path(), false).install().unwrap());
        fs::write(conflist(dir.path(), false).path(), "{}").unwrap();
        assert!(conflist(dir.path(), false).install().unwrap());
    }

    #[test]
    fn other_networks_are_moved_away_only_when_we_are_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("10-other.conflist");
        fs::write(&other, "{}").unwrap();
        conflist(dir.path(), false).install().unwrap();
        assert!(other.exists());
        conflist(dir.path(), true).install().unwrap();
        assert!(!other.exists());
        assert!(dir.path().join("10-other.conflist.culvert_bak").exists());
        assert!(conflist(dir.path(), true).path().exists());
    }
}
