// SPDX-License-Identifier: Apache-2.0
//! Maps outlive the agent: pinned ones are adopted, missing ones created.
//!
//! A pin of another layout is refused. One of another size is replaced by a map of the wanted size
//! that has its entries, and the pin moves over in one step.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::libbpf_sys as raw;
use libbpf_rs::{MapCore as _, ObjectBuilder, OpenMapMut};

use super::load::Error;
use super::{log, map, sys};
use crate::skel;

mod migrate;

pub(super) use migrate::Retired;

/// Where maps are pinned below a root.
pub(super) fn maps_dir(root: &Path) -> PathBuf {
    root.join("maps")
}

/// Where links are pinned below a root.
pub(super) fn links_dir(root: &Path) -> PathBuf {
    root.join("links")
}

/// What must agree between a pinned map and the object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    kind: u32,
    key: u32,
    value: u32,
    flags: u32,
}

impl Layout {
    fn of_pin(fd: BorrowedFd<'_>) -> io::Result<(Self, u32)> {
        let info = sys::map_info(fd)?;
        let layout = Self {
            kind: info.type_,
            key: info.key_size,
            value: info.value_size,
            flags: info.map_flags,
        };
        Ok((layout, info.max_entries))
    }

    fn of_object(map: &OpenMapMut<'_>) -> Self {
        Self {
            kind: map.map_type().into(),
            key: map.key_size(),
            value: map.value_size(),
            flags: map.map_flags(),
        }
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = libbpf_rs::MapType::from(self.kind);
        write!(f, "{kind:?} of {} B -> {} B, flags {:#x}", self.key, self.value, self.flags)
    }
}

/// Opens every pinned map, for readers.
pub(super) fn open_pinned(root: &Path) -> Result<BTreeMap<String, OwnedFd>, map::Error> {
    let dir = maps_dir(root);
    let failed = |action: &'static str| {
        let map = dir.display().to_string();
        move |source| map::Error::Io { map, action, source }
    };
    let mut fds = BTreeMap::new();
    for entry in fs::read_dir(&dir).map_err(failed("find pinned maps in"))? {
        let entry = entry.map_err(failed("find pinned maps in"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let fd = sys::obj_get(&entry.path()).map_err(|source| map::Error::Io {
            map: name.clone(),
            action: "open",
            source,
        })?;
        fds.insert(name, fd);
    }
    Ok(fds)
}

/// Adopts or creates every map, and pins them all.
pub(super) fn open_maps(
    root: &Path,
    sizes: &BTreeMap<String, u32>,
) -> Result<(BTreeMap<String, OwnedFd>, Vec<Retired>), Error> {
    for dir in [maps_dir(root), links_dir(root)] {
        fs::create_dir_all(&dir).map_err(|source| Error::Directory { path: dir, source })?;
    }

    let mut object = ObjectBuilder::default()
        .open_memory(skel::bpf_maps::OBJECT)
        .map_err(|source| Error::Open { object: "bpf_maps", source })?;
    let mut outgrown = BTreeMap::new();
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if is_internal(&name) {
            continue;
        }
        if let Some(&size) = sizes.get(&name) {
            map.set_max_entries(size)
                .map_err(|source| Error::Open { object: "bpf_maps", source })?;
        }
        if let Some(old) = adopt(root, &name, &mut map)? {
            outgrown.insert(name, old);
        }
    }

    let (loaded, said) = log::capture(|| object.load());
    let loaded = loaded.map_err(|source| Error::load("bpf_maps", source, &said))?;

    let mut fds = BTreeMap::new();
    let mut retired = Vec::new();
    for map in loaded.maps() {
        let name = map.name().to_string_lossy().into_owned();
        if is_internal(&name) {
            continue;
        }
        let fd = map
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::Pin { name: name.clone(), source })?;
        if let Some(old) = outgrown.remove(&name) {
            let old = Retired::new(&name, old, &fd)?;
            old.copy()?;
            old.replace_pin(&maps_dir(root))?;
            retired.push(old);
        } else if !maps_dir(root).join(&name).exists() {
            sys::obj_pin(fd.as_fd(), &maps_dir(root).join(&name))
                .map_err(|source| Error::Pin { name: name.clone(), source })?;
        }
        fds.insert(name, fd);
    }
    Ok((fds, retired))
}

/// `.rodata` and its like belong to one object and are never shared.
pub(super) fn is_internal(name: &str) -> bool {
    name.contains('.')
}

/// Makes the object use the pinned map if there is one that fits. A pin that differs in size alone
/// is returned: the object then creates its successor.
fn adopt(root: &Path, name: &str, map: &mut OpenMapMut<'_>) -> Result<Option<OwnedFd>, Error> {
    let path = maps_dir(root).join(name);
    let fd = match sys::obj_get(&path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Pin { name: name.to_owned(), source }),
    };
    let (pinned, size) = Layout::of_pin(fd.as_fd())
        .map_err(|source| Error::Pin { name: name.to_owned(), source })?;
    let wanted = Layout::of_object(map);
    if pinned != wanted {
        return Err(Error::Layout {
            map: name.to_owned(),
            path,
            pinned: pinned.to_string(),
            wanted: wanted.to_string(),
        });
    }
    if size != map.max_entries() && wanted.kind != raw::BPF_MAP_TYPE_SK_STORAGE {
        return Ok(Some(fd));
    }
    map.reuse_fd(fd.as_fd()).map_err(|source| Error::Open { object: "bpf_maps", source })?;
    Ok(None)
}
