// SPDX-License-Identifier: Apache-2.0
//! Deletions that happened while the agent was away.
//!
//! A DEL must succeed then too. The plugin leaves one file an attachment under
//! `<state dir>/deletions`; the agent consumes them when it starts and before each CNI call.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::names::Attachment;

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("deletions")
}

fn path(state_dir: &Path, attachment: &Attachment) -> PathBuf {
    directory(state_dir).join(format!("{}.json", attachment.id()))
}

/// Leaves a record, whole or not at all.
pub fn record(state_dir: &Path, attachment: &Attachment) -> io::Result<()> {
    fs::create_dir_all(directory(state_dir))?;
    let path = path(state_dir, attachment);
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, serde_json::to_vec(attachment)?)?;
    fs::rename(temporary, path)
}

/// The agent has done it.
pub fn forget(state_dir: &Path, attachment: &Attachment) -> io::Result<()> {
    match fs::remove_file(path(state_dir, attachment)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// What is still to be done. A file that is not a record is left alone.
pub fn pending(state_dir: &Path) -> io::Result<Vec<Attachment>> {
    let entries = match fs::read_dir(directory(state_dir)) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(attachment) = serde_json::from_slice(&fs::read(&path)?)
        {
            found.push(attachment);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_waits_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let attachment = Attachment { container_id: "c1".into(), ifname: "eth0".into() };
        assert_eq!(pending(dir.path()).unwrap(), []);
        record(dir.path(), &attachment).unwrap();
        record(dir.path(), &attachment).unwrap();
        assert_eq!(pending(dir.path()).unwrap(), std::slice::from_ref(&attachment));
        forget(dir.path(), &attachment).unwrap();
        forget(dir.path(), &attachment).unwrap();
        assert_eq!(pending(dir.path()).unwrap(), []);
    }
}
