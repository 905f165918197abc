// SPDX-License-Identifier: Apache-2.0
//! One kernel map with typed keys and values.

use std::any::type_name;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::sys::{self, Walk};

mod batch;
mod operations;
mod percpu;
mod scan;
mod tables;
mod tally;

pub use batch::Failed;
pub use operations::{Operation, Operations};
pub use percpu::PerCpu;
pub use scan::Cursor;
pub(in crate::datapath) use scan::PORTION;
pub use tables::TableMap;
pub(super) use tables::copy as copy_tables;
pub use tally::Tally;

/// What may be a key or a value: plain bytes without padding.
pub trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy> Plain for T {}

/// Why a map could not be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The map holds as many entries as it was made for.
    #[error("map `{map}` is full with {size} entries; raise its size in the configuration")]
    Full { map: String, size: u32 },

    #[error("cannot {action} map `{map}`")]
    Io { map: String, action: &'static str, source: io::Error },

    #[error(
        "map `{map}` has {key} B keys and {value} B values, and this version of Culvert expects \
         {expected}; run `culvert cleanup` first"
    )]
    Layout { map: String, key: u32, value: u32, expected: String },

    #[error("there is no map `{map}`; is the agent of this version running here?")]
    Missing { map: String },
}

/// A map of the kernel. Writes are visible to the datapath at once.
pub struct Map<K, V> {
    name: String,
    fd: OwnedFd,
    max_entries: u32,
    operations: Operations,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("name", &self.name).field("size", &self.max_entries).finish()
    }
}

impl<K, V> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<K: Plain, V: Plain> Map<K, V> {
    const SIZES: Walk = Walk { key: size_of::<K>(), value: size_of::<V>() };

    /// Takes a map over after checking that its entries are `K` and `V` in size.
    pub fn from_fd(name: &str, fd: OwnedFd) -> Result<Self, Error> {
        let max_entries = check_layout::<K, V>(name, fd.as_fd())?;
        let operations = Operations::default();
        Ok(Self { name: name.to_owned(), fd, max_entries, operations, types: PhantomData })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Entries the map was made for.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Writes through this value since it was opened.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    pub fn get(&self, key: &K) -> Result<Option<V>, Error> {
        let mut value = V::new_zeroed();
        let found =
            sys::lookup(self.fd.as_fd(), Self::SIZES, key.as_bytes(), bytes_mut(&mut value))
                .map_err(|source| self.error("read", source))?;
        Ok(found.then_some(value))
    }

    /// Writes the entry, replacing one under the same key.
    pub fn set(&self, key: &K, value: &V) -> Result<(), Error> {
        let written =
            sys::update(self.fd.as_fd(), Self::SIZES, key.as_bytes(), value.as_bytes(), 0);
        self.operations
            .note(Operation::Update, written)
            .map_err(|source| self.error("write", source))
    }

    /// Writes the entry unless the key is there already. False when it was.
    pub fn add(&self, key: &K, value: &V) -> Result<bool, Error> {
        const NOEXIST: u64 = 1;
        let (key, value) = (key.as_bytes(), value.as_bytes());
        match sys::update(self.fd.as_fd(), Self::SIZES, key, value, NOEXIST) {
            // Nothing was to be written, and nothing was.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            written => match self.operations.note(Operation::Update, written) {
                Ok(()) => Ok(true),
                Err(source) => Err(self.error("write", source)),
            },
        }
    }

    /// False when there was nothing under the key. Arrays have no removal: write a zero.
    pub fn remove(&self, key: &K) -> Result<bool, Error> {
        let removed = sys::delete(self.fd.as_fd(), Self::SIZES, key.as_bytes());
        self.operations
            .note(Operation::Delete, removed)
            .map_err(|source| self.error("delete from", source))
    }

    /// Removes the entry if `judge` says so of its value, and returns that. Programs may put another
    /// under the key at any time: one that has come between the look and the removal is judged as
    /// well, and put back unless it is to go too. Below Linux 5.14 that one is lost.
    pub fn remove_if(&self, key: &K, judge: impl Fn(&V) -> bool) -> Result<Option<V>, Error> {
        let Some(seen) = self.get(key)?.filter(&judge) else { return Ok(None) };
        let mut value = V::new_zeroed();
        let bytes = bytes_mut(&mut value);
        let taken = match sys::take(self.fd.as_fd(), Self::SIZES, key.as_bytes(), bytes) {
            Err(error) if sys::refused(&error) => return Ok(self.remove(key)?.then_some(seen)),
            taken => taken,
        };
        let taken = self.operations.note(Operation::Delete, taken);
        if !taken.map_err(|source| self.error("delete from", source))? {
            return Ok(None);
        }
        if judge(&value) {
            return Ok(Some(value));
        }
        self.add(key, &value)?;
        Ok(None)
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        error(&self.name, self.max_entries, action, source)
    }
}

fn error(map: &str, size: u32, action: &'static str, source: io::Error) -> Error {
    let map = map.to_owned();
    match source.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => Error::Full { map, size },
        _ => Error::Io { map, action, source },
    }
}

fn check_layout<K, V>(name: &str, fd: BorrowedFd<'_>) -> Result<u32, Error> {
    let map = name.to_owned();
    let info = sys::map_info(fd).map_err(|source| Error::Io { map, action: "inspect", source })?;
    if info.key_size as usize != size_of::<K>() || info.value_size as usize != size_of::<V>() {
        return Err(Error::Layout {
            map: name.to_owned(),
            key: info.key_size,
            value: info.value_size,
            expected: format!(
                "{} B (`{}`) and {} B (`{}`)",
                size_of::<K>(),
                short::<K>(),
                size_of::<V>(),
                short::<V>()
            ),
        });
    }
    Ok(info.max_entries)
}

fn short<T>() -> &'static str {
    let name = type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

fn bytes_mut<T: Plain>(value: &mut T) -> &mut [u8] {
    value.as_mut_bytes()
}
