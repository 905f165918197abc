// SPDX-License-Identifier: Apache-2.0
//! Per-CPU arrays: the kernel hands out one value for each possible CPU.

use std::marker::PhantomData;
use std::os::fd::{AsFd as _, OwnedFd};

use zerocopy::IntoBytes as _;

use super::{Error, Plain, check_layout, error};
use crate::datapath::host;
use crate::datapath::sys::{self, Walk};

/// A per-CPU array. `V` must be a multiple of eight bytes, as the kernel spaces values so.
#[derive(Debug)]
pub struct PerCpu<V> {
    name: String,
    fd: OwnedFd,
    max_entries: u32,
    cpus: usize,
    types: PhantomData<fn() -> V>,
}

impl<V: Plain> PerCpu<V> {
    const SPACED: () =
        assert!(size_of::<V>().is_multiple_of(8), "the kernel spaces values by eight bytes");

    pub fn from_fd(name: &str, fd: OwnedFd) -> Result<Self, Error> {
        let () = Self::SPACED;
        let max_entries = check_layout::<u32, V>(name, fd.as_fd())?;
        let cpus = host::possible_cpus().map_err(|source| Error::Io {
            map: name.to_owned(),
            action: "count the CPUs of",
            source,
        })?;
        Ok(Self { name: name.to_owned(), fd, max_entries, cpus, types: PhantomData })
    }

    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// The values of `index`, one a possible CPU.
    pub fn get(&self, index: u32) -> Result<Vec<V>, Error> {
        let mut values = vec![V::new_zeroed(); self.cpus];
        let sizes = Walk { key: size_of::<u32>(), value: size_of::<V>() * self.cpus };
        sys::lookup(self.fd.as_fd(), sizes, index.as_bytes(), values.as_mut_bytes())
            .map_err(|source| error(&self.name, self.max_entries, "read", source))?;
        Ok(values)
    }

    /// One figure for each index, made from its CPUs' values by `fold`.
    pub fn fold<T: Clone>(&self, zero: T, fold: impl Fn(T, V) -> T) -> Result<Vec<T>, Error> {
        (0..self.max_entries)
            .map(|index| Ok(self.get(index)?.into_iter().fold(zero.clone(), &fold)))
            .collect()
    }
}
