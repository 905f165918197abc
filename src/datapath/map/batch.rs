// SPDX-License-Identifier: Apache-2.0
//! Many writes in few system calls, with every entry's own failure.

use std::io;
use std::os::fd::AsFd as _;

use zerocopy::IntoBytes as _;

use super::{Error, Map, Operation, Plain};
use crate::datapath::sys;

/// Entries in one system call: large enough to make its cost vanish, small enough that the copies
/// stay in cache.
const CHUNK: usize = 4096;

/// One entry of a batch that was refused.
#[derive(Debug)]
pub struct Failed<K> {
    pub key: K,
    pub error: Error,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Writes all entries in their order. What fails does not stop the others and is returned.
    pub fn set_batch(&self, entries: &[(K, V)]) -> Vec<Failed<K>> {
        let mut failed = Vec::new();
        for chunk in entries.chunks(CHUNK) {
            let keys: Vec<K> = chunk.iter().map(|(key, _)| *key).collect();
            let values: Vec<V> = chunk.iter().map(|(_, value)| *value).collect();
            each(
                chunk.len(),
                |from| {
                    let (keys, values) = (&keys[from..], &values[from..]);
                    let fd = self.fd.as_fd();
                    sys::update_batch(fd, Self::SIZES, keys.as_bytes(), values.as_bytes(), 0)
                },
                |at| {
                    let (key, value) = (keys[at].as_bytes(), values[at].as_bytes());
                    sys::update(self.fd.as_fd(), Self::SIZES, key, value, 0)
                },
                |at, source| {
                    failed.push(Failed { key: keys[at], error: self.error("write", source) });
                },
            );
        }
        self.operations.count(Operation::Update, entries.len(), failed.len());
        failed
    }

    /// Removes all keys. A key that is not there is no failure.
    pub fn remove_batch(&self, keys: &[K]) -> Vec<Failed<K>> {
        let mut failed = Vec::new();
        for chunk in keys.chunks(CHUNK) {
            each(
                chunk.len(),
                |from| sys::delete_batch(self.fd.as_fd(), Self::SIZES, chunk[from..].as_bytes()),
                |at| sys::delete(self.fd.as_fd(), Self::SIZES, chunk[at].as_bytes()).map(drop),
                |at, source| {
                    let error = self.error("delete from", source);
                    failed.push(Failed { key: chunk[at], error });
                },
            );
        }
        self.operations.count(Operation::Delete, keys.len(), failed.len());
        failed
    }
}

/// Runs `batch` over `count` entries. The one it stops at is tried alone, so that its error is
/// its own; where there are no batches at all every entry is tried alone.
fn each(
    count: usize,
    batch: impl Fn(usize) -> Result<(), (usize, io::Error)>,
    single: impl Fn(usize) -> io::Result<()>,
    mut failed: impl FnMut(usize, io::Error),
) {
    let mut at = 0;
    let mut batches = true;
    while at < count {
        if batches {
            match batch(at) {
                Ok(()) => return,
                Err((done, error)) => {
                    at += done;
                    batches = !(done == 0 && sys::refused(&error));
                }
            }
        }
        if let Err(error) = single(at) {
            failed(at, error);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn the_entry_a_batch_stops_at_fails_alone() {
        let written = RefCell::new(Vec::new());
        let mut failures = Vec::new();
        let bad = 2;
        each(
            5,
            |from| {
                for at in from..5 {
                    if at == bad {
                        return Err((at - from, errno(libc::E2BIG)));
                    }
                    written.borrow_mut().push(at);
                }
                Ok(())
            },
            |at| if at == bad { Err(errno(libc::E2BIG)) } else { Ok(()) },
            |at, error| failures.push((at, error.raw_os_error())),
        );
        assert_eq!(*written.borrow(), [0, 1, 3, 4]);
        assert_eq!(failures, [(bad, Some(libc::E2BIG))]);
    }

    #[test]
    fn a_kernel_without_batches_is_asked_once_and_served_entry_by_entry() {
        let asked = RefCell::new(0);
        let written = RefCell::new(Vec::new());
        each(
            3,
            |_| {
                *asked.borrow_mut() += 1;
                Err((0, errno(sys::ENOTSUPP)))
            },
            |at| {
                written.borrow_mut().push(at);
                Ok(())
            },
            |at, _| panic!("entry {at} failed"),
        );
        assert_eq!((*asked.borrow(), &*written.borrow()), (1, &vec![0, 1, 2]));
    }
}
