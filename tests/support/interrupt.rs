// SPDX-License-Identifier: Apache-2.0
//! Waiting that outlasts a stop of the process.

use std::io::{self, ErrorKind};

/// Repeats `call` for as long as it is interrupted.
///
/// The kernel restarts no call on a socket that has a timeout (signal(7)), and a process that is
/// stopped or frozen and goes on, as machines do with their jobs, is interrupted without a signal.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
