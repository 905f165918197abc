// SPDX-License-Identifier: Apache-2.0
//! Takes over the agent's socket file, unless another agent answers on it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// Why there is no local API.
#[derive(Debug, Error)]
pub enum Error {
    #[error("another agent answers on `{0}`; stop it, or give this one another `stateDir`")]
    InUse(PathBuf),

    #[error("cannot make the socket `{path}`")]
    Io { path: PathBuf, source: io::Error },
}

/// A listener that only root may connect to. The file appears under its name when it is already
/// usable and protected, so there is no moment in which a client is refused by a half-made one.
pub async fn bind(path: &Path) -> Result<UnixListener, Error> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(Error::InUse(path.to_owned()));
    }
    let io = |source| Error::Io { path: path.to_owned(), source };

    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io)?;
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(io)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_a_live_agent_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper/culvert.sock");

        let first = bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = bind(&path).await.unwrap_err();
        assert!(matches!(refused, Error::InUse(_)), "{refused}");

        drop(first);
        assert!(path.exists(), "the stale file is what this test is about");
        let _second = bind(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
