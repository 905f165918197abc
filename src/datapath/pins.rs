// SPDX-License-Identifier: Apache-2.0
//! Maps outlive the agent: pinned ones are adopted, missing ones created.
//!
//! A pin of another size, or whose values have other members, is replaced by a map as it is wanted
//! that has its entries, and the pin moves over in one step. What cannot be converted is refused
//! before anything is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::libbpf_sys as raw;
use libbpf_rs::{MapCore as _, ObjectBuilder, OpenMapMut, OpenObject};

use super::load::Error;
use super::{Options, log, map, sys};
use crate::skel;

mod members;
mod migrate;
mod pairs;

use members::{Conversion, Members};
pub(super) use migrate::Retired;

/// Maps of which nobody misses the content: CPUs' own work space, and what lasts for a moment.
const TRANSIENT: &[&str] =
    &["budgets", "fragment_buffers", "fragments", "fragments_held", "scratches", "vip_hints"];

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

/// Types of a map's key and value, as ids of some BTF; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    key: u32,
    value: u32,
}

/// The BTF of an object, and the types of each of its maps in it. None: it has no BTF.
fn wanted_types(object: &OpenObject) -> Option<(Vec<u8>, BTreeMap<String, Wanted>)> {
    let types = object.maps().map(|map| {
        let (key, value) = sys::object_types(&map);
        (map.name().to_string_lossy().into_owned(), Wanted { key, value })
    });
    let types = types.collect();
    Some((sys::object_btf(object)?, types))
}

/// What becomes of a pinned map.
enum Fate {
    /// It is used as it is.
    Adopted,
    /// The object makes its successor, which gets its entries.
    Replaced { old: OwnedFd, conversion: Option<Conversion> },
    /// The object makes its successor, which begins empty.
    Forgotten { old: OwnedFd },
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
    options: &Options,
) -> Result<(BTreeMap<String, OwnedFd>, Vec<Retired>), Error> {
    let root = options.root.as_path();
    for dir in [maps_dir(root), links_dir(root)] {
        fs::create_dir_all(&dir).map_err(|source| Error::Directory { path: dir, source })?;
    }

    let pinned = |name| maps_dir(root).join(name).exists();
    let unmarked_flows = pinned("flows") && !pinned("pod_pairs");

    let mut object = ObjectBuilder::default()
        .open_memory(skel::bpf_maps::OBJECT)
        .map_err(|source| Error::Open { object: "bpf_maps", source })?;
    let types = wanted_types(&object);
    let (mut outgrown, mut forgotten) = (BTreeMap::new(), BTreeMap::new());
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if is_internal(&name) {
            continue;
        }
        let failed = |source| Error::Open { object: "bpf_maps", source };
        if let Some(&size) = options.map_sizes.get(&name) {
            map.set_max_entries(size).map_err(failed)?;
        }
        if let Some(&kind) = options.map_kinds.get(&name) {
            map.set_type(kind).map_err(failed)?;
        }
        match adopt(root, &name, &mut map, types.as_ref())? {
            Fate::Adopted => {}
            Fate::Replaced { old, conversion } => {
                outgrown.insert(name, (old, conversion));
            }
            Fate::Forgotten { old } => {
                forgotten.insert(name, old);
            }
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
        let own = || {
            let fd = map.as_fd().try_clone_to_owned();
            fd.map_err(|source| Error::Pin { name: name.clone(), source })
        };
        let fd = own()?;
        if unmarked_flows && name == "pod_pairs" {
            pairs::mark_all(own()?)?;
        }
        if let Some((old, conversion)) = outgrown.remove(&name) {
            let old = Retired::new(&name, old, &fd, conversion)?;
            old.copy()?;
            old.replace_pin(&maps_dir(root))?;
            retired.push(old);
        } else if let Some(old) = forgotten.remove(&name) {
            Retired::new(&name, old, &fd, None)?.replace_pin(&maps_dir(root))?;
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

/// Makes the object use the pinned map if there is one that fits; else the object will create its
/// successor.
fn adopt(
    root: &Path,
    name: &str,
    map: &mut OpenMapMut<'_>,
    types: Option<&(Vec<u8>, BTreeMap<String, Wanted>)>,
) -> Result<Fate, Error> {
    let path = maps_dir(root).join(name);
    let fd = match sys::obj_get(&path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Fate::Adopted),
        Err(source) => return Err(Error::Pin { name: name.to_owned(), source }),
    };
    let failed = |source| Error::Pin { name: name.to_owned(), source };
    let (pinned, size) = Layout::of_pin(fd.as_fd()).map_err(failed)?;
    let wanted = Layout::of_object(map);
    let change = match types {
        None => Change::None,
        Some((btf, types)) => {
            let types = types.get(name).copied().unwrap_or_default();
            change(fd.as_fd(), btf, types, wanted.value as usize).map_err(failed)?
        }
    };
    let same_map = Layout { value: wanted.value, ..pinned } == wanted;
    match change {
        Change::None if pinned == wanted => {}
        _ if TRANSIENT.contains(&name) => return Ok(Fate::Forgotten { old: fd }),
        Change::Convertible(conversion)
            if same_map && wanted.kind != raw::BPF_MAP_TYPE_SK_STORAGE =>
        {
            return Ok(Fate::Replaced { old: fd, conversion: Some(conversion) });
        }
        _ => {
            return Err(Error::Layout {
                map: name.to_owned(),
                path,
                pinned: pinned.to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    if size != map.max_entries() && wanted.kind != raw::BPF_MAP_TYPE_SK_STORAGE {
        return Ok(Fate::Replaced { old: fd, conversion: None });
    }
    map.reuse_fd(fd.as_fd()).map_err(|source| Error::Open { object: "bpf_maps", source })?;
    Ok(Fate::Adopted)
}

/// How members differ between a pinned map and the wanted one.
enum Change {
    /// Not at all, as far as is known.
    None,
    Convertible(Conversion),
    Unknown,
}

/// `value`: bytes of the wanted value.
fn change(pin: BorrowedFd<'_>, btf: &[u8], wanted: Wanted, value: usize) -> io::Result<Change> {
    let info = sys::map_info(pin)?;
    if info.btf_id == 0 || wanted.value == 0 {
        return Ok(Change::None);
    }
    let pinned = sys::kernel_btf(info.btf_id)?;
    let old = |id| Members::read(&pinned, id);
    let new = |id| Members::read(btf, id);
    if old(info.btf_key_type_id) != new(wanted.key) {
        return Ok(Change::Unknown);
    }
    Ok(match (old(info.btf_value_type_id), new(wanted.value)) {
        (old, new) if old == new => Change::None,
        (Some(old), Some(new)) => {
            Conversion::between(&old, &new, value).map_or(Change::Unknown, Change::Convertible)
        }
        _ => Change::Unknown,
    })
}
