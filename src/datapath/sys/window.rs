// SPDX-License-Identifier: Apache-2.0
//! Part of an array map as memory, which BPF_F_MMAPABLE allows (5.5).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The values of an array between two bytes, as 16-bit words. Unmapped when it is dropped: the
/// kernel counts what is mapped as ours.
#[derive(Debug)]
pub(in crate::datapath) struct Window {
    start: NonNull<libc::c_void>,
    length: usize,
    /// Bytes of the array before `start`.
    skipped: usize,
}

impl Window {
    /// The bytes `from..to` of the array and what shares a page with them.
    pub(in crate::datapath) fn open(
        map: BorrowedFd<'_>,
        from: usize,
        to: usize,
    ) -> io::Result<Self> {
        let page = page_size()?;
        let skipped = from / page * page;
        let length = NonZeroUsize::new(to.next_multiple_of(page).saturating_sub(skipped))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let offset = libc::off_t::try_from(skipped)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map, offset) }?;
        Ok(Self { start, length: length.get(), skipped })
    }

    /// The words from byte `at` of the array on. Programs may read them meanwhile.
    ///
    /// # Panics
    /// They do not lie in the window.
    pub(in crate::datapath) fn words(&self, at: usize, count: usize) -> &[AtomicU16] {
        let start = at.checked_sub(self.skipped).expect("the window starts before");
        assert!(start.is_multiple_of(2) && start + 2 * count <= self.length, "inside the window");
        // SAFETY: aligned and inside the mapping, as asserted, which lives as long as `self`; what
        // others may read or write at the same time is atomic.
        unsafe {
            let first = self.start.as_ptr().cast::<u8>().add(start).cast::<AtomicU16>();
            std::slice::from_raw_parts(first, count)
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Later readers of the map see what was written before.
        std::sync::atomic::fence(Ordering::Release);
        // SAFETY: our own mapping, to which no reference outlives `self`.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

fn page_size() -> io::Result<usize> {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?;
    Ok(size.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096))
}
