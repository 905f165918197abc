// SPDX-License-Identifier: Apache-2.0
//! Reading a whole map, at once or in portions.

use std::os::fd::AsFd as _;

use zerocopy::IntoBytes as _;

use super::{Error, Map, Plain};
use crate::datapath::sys;

/// Entries read by one system call.
pub(in crate::datapath) const PORTION: usize = 4096;

/// Where a scan of one map stands. Entries that come and go meanwhile may be missed or met, all
/// others are met once.
#[derive(Clone, Debug)]
pub struct Cursor<K> {
    state: State<K>,
}

#[derive(Clone, Debug)]
enum State<K> {
    Start,
    Batch(Vec<u8>),
    /// The last key read: for maps or kernels without batches.
    Key(Option<K>),
    End,
}

impl<K> Cursor<K> {
    pub fn new() -> Self {
        Self { state: State::Start }
    }

    /// A scan that reads key by key even where batches exist.
    pub fn without_batches() -> Self {
        Self { state: State::Key(None) }
    }

    /// The scan is under way and goes key by key.
    pub(in crate::datapath) fn is_by_key(&self) -> bool {
        matches!(self.state, State::Key(_))
    }

    pub fn is_at_end(&self) -> bool {
        matches!(self.state, State::End)
    }
}

impl<K> Default for Cursor<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Every entry of the map.
    pub fn entries(&self) -> Result<Vec<(K, V)>, Error> {
        self.entries_from(Cursor::new())
    }

    /// Every entry after `cursor`.
    pub fn entries_from(&self, mut cursor: Cursor<K>) -> Result<Vec<(K, V)>, Error> {
        let mut entries = Vec::new();
        while !cursor.is_at_end() {
            self.read_portion(&mut cursor, PORTION, &mut entries)?;
        }
        Ok(entries)
    }

    /// How many entries are `wanted`. Reads the whole map, a portion at a time.
    pub fn count(&self, wanted: impl Fn(&K, &V) -> bool) -> Result<u64, Error> {
        let (mut cursor, mut read, mut count) = (Cursor::new(), Vec::new(), 0);
        while !cursor.is_at_end() {
            self.read_portion(&mut cursor, PORTION, &mut read)?;
            count += read.drain(..).filter(|(key, value)| wanted(key, value)).count() as u64;
        }
        Ok(count)
    }

    /// Appends about `count` more entries (a hash bucket is never cut) and moves the cursor.
    pub fn read_portion(
        &self,
        cursor: &mut Cursor<K>,
        count: usize,
        entries: &mut Vec<(K, V)>,
    ) -> Result<(), Error> {
        let mut position = match &mut cursor.state {
            State::End => return Ok(()),
            State::Key(last) => {
                let last = self.walk_keys(*last, count, entries)?;
                cursor.state = last.map_or(State::End, |last| State::Key(Some(last)));
                return Ok(());
            }
            State::Start => Vec::new(),
            State::Batch(position) => std::mem::take(position),
        };

        let mut count = count.clamp(1, self.max_entries.max(1) as usize);
        loop {
            let mut keys = vec![K::new_zeroed(); count];
            let mut values = vec![V::new_zeroed(); count];
            let read = sys::lookup_batch(
                self.fd.as_fd(),
                Self::SIZES,
                &mut position,
                keys.as_mut_bytes(),
                values.as_mut_bytes(),
            );
            match read {
                Ok((read, ended)) => {
                    entries.extend(keys.into_iter().zip(values).take(read));
                    cursor.state = if ended { State::End } else { State::Batch(position) };
                    return Ok(());
                }
                // One bucket holds more than fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => count *= 2,
                Err(error) if position.is_empty() && sys::refused(&error) => {
                    cursor.state = State::Key(None);
                    return self.read_portion(cursor, count, entries);
                }
                Err(source) => return Err(self.error("read", source)),
            }
        }
    }

    /// Reads key by key; the last key, or `None` at the end of the map.
    fn walk_keys(
        &self,
        mut last: Option<K>,
        count: usize,
        entries: &mut Vec<(K, V)>,
    ) -> Result<Option<K>, Error> {
        for _ in 0..count {
            let mut key = K::new_zeroed();
            let last_bytes = last.as_ref().map(K::as_bytes);
            if !sys::next_key(self.fd.as_fd(), Self::SIZES, last_bytes, key.as_mut_bytes())
                .map_err(|source| self.error("read", source))?
            {
                return Ok(None);
            }
            if let Some(value) = self.get(&key)? {
                entries.push((key, value));
            }
            last = Some(key);
        }
        Ok(last)
    }
}
