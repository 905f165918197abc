// SPDX-License-Identifier: Apache-2.0
//! A map whose configured size or whose values' layout changed: its entries move into a new one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use libbpf_rs::libbpf_sys as raw;

use super::{Conversion, Layout};
use crate::datapath::load::Error;
use crate::datapath::map;
use crate::datapath::sys::{self, Walk};

/// The former map of a replaced one, kept until no program writes to it any more.
#[derive(Debug)]
pub(in crate::datapath) struct Retired {
    name: String,
    old: OwnedFd,
    new: OwnedFd,
    layout: Layout,
    old_size: u32,
    new_size: u32,
    /// None: values stay as they are.
    conversion: Option<Conversion>,
    /// Bytes of a value of the new map.
    new_value: usize,
}

/// Datapath state: what does not fit is forgotten, as it would be by age.
const FORGETTABLE: &[u32] = &[raw::BPF_MAP_TYPE_LRU_HASH];

impl Retired {
    pub(super) fn new(
        name: &str,
        old: OwnedFd,
        new: &OwnedFd,
        conversion: Option<Conversion>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Migrate { map: name.to_owned(), source };
        let (layout, old_size) = Layout::of_pin(old.as_fd()).map_err(failed)?;
        let (new_layout, new_size) = Layout::of_pin(new.as_fd()).map_err(failed)?;
        let new = new.try_clone().map_err(failed)?;
        let new_value = new_layout.value as usize;
        let name = name.to_owned();
        Ok(Self { name, old, new, layout, old_size, new_size, conversion, new_value })
    }

    /// Moves the pin over in one step, so that there is one at any time.
    pub(super) fn replace_pin(&self, dir: &Path) -> Result<(), Error> {
        let failed = |source| Error::Pin { name: self.name.clone(), source };
        let path = dir.join(&self.name);
        let aside = dir.join(format!("{}-new", self.name));
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => sys::obj_pin(self.new.as_fd(), &aside).map_err(failed)?,
        }
        fs::rename(&aside, &path).map_err(failed)?;
        tracing::info!(
            map = self.name,
            from = self.old_size,
            to = self.new_size,
            converted = self.conversion.is_some(),
            "map replaced, entries moved"
        );
        Ok(())
    }

    /// Copies every entry into the new map.
    pub(super) fn copy(&self) -> Result<(), Error> {
        self.transfer(0)
    }

    /// Copies everything once more, as long as no program writes to the new map: what the old
    /// programs did while the new ones were verified.
    pub(in crate::datapath) fn catch_up(&self) -> Result<(), Error> {
        match self.layout.kind {
            raw::BPF_MAP_TYPE_ARRAY | raw::BPF_MAP_TYPE_PERCPU_ARRAY => Ok(()),
            _ => self.transfer(0),
        }
    }

    /// Copies what old programs have added since [`Self::catch_up`]; newer entries stay.
    pub(in crate::datapath) fn carry_over(&self) -> Result<(), Error> {
        const NOEXIST: u64 = 1;
        // The agent has written to the new one since it opened it, and what it deleted stays away.
        if self.layout.flags & raw::BPF_F_RDONLY_PROG != 0 {
            return Ok(());
        }
        match self.layout.kind {
            raw::BPF_MAP_TYPE_ARRAY | raw::BPF_MAP_TYPE_PERCPU_ARRAY => Ok(()),
            _ => self.transfer(NOEXIST),
        }
    }

    fn transfer(&self, flags: u64) -> Result<(), Error> {
        // A ring holds nothing that outlives its reader.
        if self.layout.kind == raw::BPF_MAP_TYPE_RINGBUF {
            return Ok(());
        }
        let failed = |source| Error::Migrate { map: self.name.clone(), source };
        if self.name == "maglev" {
            let (old, new) = ((self.old.as_fd(), self.old_size), (self.new.as_fd(), self.new_size));
            return map::copy_tables(old, new).map_err(failed);
        }
        let (mut value, mut new_value) = (self.layout.value as usize, self.new_value);
        let mut cpus = 1;
        if self.layout.kind == raw::BPF_MAP_TYPE_PERCPU_ARRAY {
            cpus = crate::datapath::host::possible_cpus().map_err(failed)?;
            // As the kernel lays the CPUs' values side by side.
            (value, new_value) = (value.next_multiple_of(8), new_value.next_multiple_of(8));
        }
        let sizes = Walk { key: self.layout.key as usize, value: value * cpus };
        let new_sizes = Walk { value: new_value * cpus, ..sizes };
        let mut value = vec![0; sizes.value];
        let mut lost = 0_u64;
        for key in keys(self.old.as_fd(), sizes).map_err(failed)? {
            if !sys::lookup(self.old.as_fd(), sizes, &key, &mut value).map_err(failed)? {
                continue;
            }
            let written = match &self.conversion {
                None => sys::update(self.new.as_fd(), sizes, &key, &value, flags),
                Some(conversion) => {
                    let mut new = Vec::with_capacity(new_sizes.value);
                    for each in value.chunks_exact(sizes.value / cpus) {
                        let start = new.len();
                        new.extend(conversion.apply(each));
                        new.resize(start + new_value, 0);
                    }
                    sys::update(self.new.as_fd(), new_sizes, &key, &new, flags)
                }
            };
            match written {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EEXIST) => {}
                    Some(libc::E2BIG) => {
                        // An index beyond a shrunk array matters only if something is there.
                        let array = self.layout.kind == raw::BPF_MAP_TYPE_ARRAY;
                        lost += u64::from(!array || value.iter().any(|&byte| byte != 0));
                    }
                    _ => return Err(failed(error)),
                },
            }
        }
        self.judge(lost)
    }

    fn judge(&self, lost: u64) -> Result<(), Error> {
        if lost == 0 || FORGETTABLE.contains(&self.layout.kind) {
            return Ok(());
        }
        // Flows are the datapath's own: a smaller table must not keep the agent from starting.
        if self.name == "flows" {
            tracing::warn!(map = self.name, lost, "flows did not fit into the smaller map");
            return Ok(());
        }
        Err(Error::Shrunk { map: self.name.clone(), lost, old: self.old_size, new: self.new_size })
    }
}

/// Every key. Deletions meanwhile restart the kernel's walk, hence the set.
fn keys(map: BorrowedFd<'_>, sizes: Walk) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut keys = BTreeSet::new();
    let mut last: Option<Vec<u8>> = None;
    let mut restarts = 0;
    loop {
        let mut key = vec![0; sizes.key];
        if !sys::next_key(map, sizes, last.as_deref(), &mut key)? {
            return Ok(keys);
        }
        if !keys.insert(key.clone()) {
            restarts += 1;
            // The datapath deletes faster than we read: what was read so far is most of it.
            if restarts > 1_000_000 {
                return Ok(keys);
            }
        }
        last = Some(key);
    }
}
