// SPDX-License-Identifier: Apache-2.0
//! Takes everything off this machine that an agent has left: `culvert cleanup`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, clsact, unpin};
use crate::datapath::{log, pins};

/// What was found and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// File names of the links' pins.
    pub links: Vec<String>,
    /// Devices that had filters of ours.
    pub filters: Vec<String>,
    pub maps: Vec<String>,
}

/// Detaches every program, then removes every map pinned under `root`, and `root` itself if
/// nothing else is in it. Doing it twice is no failure. Devices are those of the calling thread's
/// network namespace.
pub fn cleanup(root: &Path) -> Result<Removed, Error> {
    log::route();
    let mut removed = Removed { links: unpin(root, |_| true)?, ..Default::default() };
    for device in nix::net::if_::if_nameindex().iter().flatten() {
        if clsact::remove(device.index() as i32) {
            removed.filters.push(device.name().to_string_lossy().into_owned());
        }
    }
    removed.maps = remove_files(&pins::maps_dir(root))?;
    for dir in [pins::maps_dir(root), pins::links_dir(root), root.to_owned()] {
        match fs::remove_dir(&dir) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) => {}
            Err(source) => return Err(Error::Detach { path: dir, source }),
        }
    }
    Ok(removed)
}

fn remove_files(dir: &PathBuf) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::List { path: dir.clone(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::List { path: dir.clone(), source })?;
        super::remove_pin(&entry.path())?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
