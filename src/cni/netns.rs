// SPDX-License-Identifier: Apache-2.0
//! Running something inside another network namespace, with netlink at hand.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};
use rtnetlink::Handle;

/// True when `netns` is the namespace this thread is in.
pub fn is_own(netns: &File) -> io::Result<bool> {
    let own = std::fs::metadata("/proc/thread-self/ns/net")?;
    let other = netns.metadata()?;
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// Opens the namespace at `path`.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Runs `work` on a thread of its own inside `netns`, so that no other thread ever changes its
/// namespace.
pub fn inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        });
        inside.join().map_err(|_| io::Error::other("the thread inside the namespace panicked"))?
    })
}

/// Runs `work` with a netlink socket of the calling thread's namespace.
pub fn with_netlink<T, E, F>(work: impl FnOnce(Handle) -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<io::Error>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        work(handle).await
    })
}
