// SPDX-License-Identifier: Apache-2.0
//! One file an attachment under `<state dir>/endpoints`, replaced whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::abi;
use crate::cni::api::Add;

/// A pod with a finished ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    #[serde(flatten)]
    pub add: Add,
    /// 0 when unknown.
    pub netns_cookie: u64,
    /// As in [`abi::Endpoint`]. Asked of the kernel by each agent.
    #[serde(skip)]
    pub netns_number: u32,
}

impl Endpoint {
    /// Value in map `endpoints`.
    pub fn entry(&self) -> abi::Endpoint {
        abi::Endpoint {
            ifindex: self.ifindex,
            mac: self.mac,
            host_mac: self.host_mac,
            netns_cookie: self.netns_cookie,
            netns_number: self.netns_number,
            pad: 0,
        }
    }
}

impl Deref for Endpoint {
    type Target = Add;

    fn deref(&self) -> &Add {
        &self.add
    }
}

impl DerefMut for Endpoint {
    fn deref_mut(&mut self) -> &mut Add {
        &mut self.add
    }
}

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// What the directory holds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) damaged: Vec<Damaged>,
}

/// A file that says nothing, for a crash of the machine or a hand that edited it.
#[derive(Debug)]
pub(super) struct Damaged {
    /// Of the attachment, from the file's name.
    pub(super) id: String,
    pub(super) path: PathBuf,
    pub(super) source: serde_json::Error,
}

#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn open(state_dir: &Path) -> Result<Self, Error> {
        let dir = state_dir.join("endpoints");
        match fs::create_dir_all(&dir) {
            Ok(()) => Ok(Self { dir }),
            Err(source) => Err(Error::Io { action: "make", path: dir, source }),
        }
    }

    /// All endpoints, and the files that are none.
    pub(super) fn load(&self) -> Result<Loaded, Error> {
        let failed = |path: &Path, source| Error::Io { action: "read", path: path.into(), source };
        let mut found = Loaded::default();
        for entry in fs::read_dir(&self.dir).map_err(|cause| failed(&self.dir, cause))? {
            let path = entry.map_err(|cause| failed(&self.dir, cause))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(|cause| failed(&path, cause))?;
            match serde_json::from_slice(&bytes) {
                Ok(endpoint) => found.endpoints.push(endpoint),
                Err(source) => {
                    let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    found.damaged.push(Damaged { id, path, source });
                }
            }
        }
        Ok(found)
    }

    pub(super) fn write(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let path = self.path(&endpoint.attachment.id());
        replace(&path, serde_json::to_string_pretty(endpoint).map(String::into_bytes))
            .map_err(|source| Error::Io { action: "write", path, source })
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::Io { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

/// Writes `path` so that a reader, and a machine that loses power, see the old file or the new.
pub(super) fn replace(path: &Path, content: serde_json::Result<Vec<u8>>) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&content?)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
