// SPDX-License-Identifier: Apache-2.0
//! Which files of a directory are manifests, and whether one changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// Tells two versions of a file apart without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Modification time, nanoseconds.
    modified: i128,
    /// Change time, nanoseconds: moves even where a tool puts the modification time back.
    changed: i128,
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        let nanoseconds = |seconds, rest| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

#[derive(Debug)]
pub(super) enum Content {
    Unchanged,
    Gone,
    Text(Stamp, String),
}

/// Whether a file of this name is read. Hidden ones are editors' and ConfigMap mounts' own.
pub(super) fn is_manifest(name: &str) -> bool {
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

pub(super) fn names(directory: &Path) -> io::Result<BTreeSet<Arc<str>>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string()
            && is_manifest(&name)
        {
            names.insert(name.into());
        }
    }
    Ok(names)
}

/// Reads a file, through symbolic links, if it is not as it was.
pub(super) fn read(path: &Path, before: Option<Stamp>) -> io::Result<Content> {
    let stamp = match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Stamp::of(&meta),
        Ok(_) => return Ok(Content::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Gone),
        Err(error) => return Err(error),
    };
    if before == Some(stamp) {
        return Ok(Content::Unchanged);
    }
    // Taken before the text: what is written in between is seen as a change next time.
    match fs::read_to_string(path) {
        Ok(text) => Ok(Content::Text(stamp, text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Gone),
        Err(error) => Err(error),
    }
}
