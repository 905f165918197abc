// SPDX-License-Identifier: Apache-2.0
//! Map `maglev`: tables of 16-bit slots, written as memory.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::{Error, check_layout, error};
use crate::abi::MaglevSlots;
use crate::datapath::sys::Window;

const SLOT: usize = size_of::<u16>();

/// The whole map. Offsets and sizes are in slots.
#[derive(Debug)]
pub struct TableMap {
    name: String,
    fd: OwnedFd,
    max_entries: u32,
}

impl TableMap {
    pub fn from_fd(name: &str, fd: OwnedFd) -> Result<Self, Error> {
        let max_entries = check_layout::<u32, MaglevSlots>(name, fd.as_fd())?;
        Ok(Self { name: name.to_owned(), fd, max_entries })
    }

    /// Entries of four slots each.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Writes each of `tables` to its offset.
    pub fn write<'a>(
        &self,
        tables: impl Iterator<Item = (u32, &'a [u16])> + Clone,
    ) -> Result<(), Error> {
        let Some(first) = tables.clone().map(|(offset, _)| offset).min() else { return Ok(()) };
        let end = tables.clone().map(|(offset, places)| offset as usize + places.len()).max();
        let window = self.window(first, end.unwrap_or(0), "write")?;
        for (offset, places) in tables {
            let words = window.words(offset as usize * SLOT, places.len());
            for (word, place) in words.iter().zip(places) {
                word.store(*place, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The `size` slots from `offset` on.
    pub fn read(&self, offset: u32, size: u32) -> Result<Vec<u16>, Error> {
        let window = self.window(offset, offset as usize + size as usize, "read")?;
        let words = window.words(offset as usize * SLOT, size as usize);
        Ok(words.iter().map(|word| word.load(Ordering::Relaxed)).collect())
    }

    fn window(&self, first: u32, end: usize, action: &'static str) -> Result<Window, Error> {
        let error = |source| error(&self.name, self.max_entries, action, source);
        if end * SLOT > self.max_entries as usize * size_of::<MaglevSlots>() {
            return Err(error(std::io::Error::from_raw_os_error(libc::E2BIG)));
        }
        Window::open(self.fd.as_fd(), first as usize * SLOT, end * SLOT).map_err(error)
    }
}

/// Copies what fits from a map into its successor of another size. A service that points beyond it
/// chooses by chance until the agent has given it another table.
pub(in crate::datapath) fn copy(
    old: (BorrowedFd<'_>, u32),
    new: (BorrowedFd<'_>, u32),
) -> std::io::Result<()> {
    let bytes = old.1.min(new.1) as usize * size_of::<MaglevSlots>();
    let (from, to) = (Window::open(old.0, 0, bytes)?, Window::open(new.0, 0, bytes)?);
    let pairs = from.words(0, bytes / SLOT).iter().zip(to.words(0, bytes / SLOT));
    for (from, to) in pairs {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(())
}
