// SPDX-License-Identifier: Apache-2.0
//! Destroys the connected UDP sockets whose backend is gone, and no other.
//!
//! A connected UDP socket asks nobody again: left alone it would send into the void for ever. Its
//! owner's waiting or next `recv` fails with `ECONNABORTED` (a `send` with `EDESTADDRREQ`), and it
//! connects anew. Sockets that name the pod's
//! address themselves, unconnected ones and those of other services are not touched, because what
//! was translated, and to which target, stands in the socket itself (map `sock_nat`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Func;
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{IterOpts, Link, MapCore as _, MapFlags};
use nix::sched::{CloneFlags, setns};
use thiserror::Error;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::abi::{GoneTarget, StaleSock};
use crate::skel::bpf_iter::{BpfIterSkel, BpfIterSkelBuilder};

mod diag;
mod walk;

/// Entries of `gone_targets`: how many targets one walk may look for.
const TARGETS_PER_WALK: usize = 4096;

/// Why sockets could not be looked for or destroyed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the kernel refused bpf_iter; connected UDP sockets outlive their backend here")]
    Load(#[source] libbpf_rs::Error),

    #[error("cannot write map `gone_targets`")]
    Targets(#[source] libbpf_rs::Error),

    #[error("cannot walk the sockets in map `sock_nat`")]
    Walk(#[source] io::Error),

    #[error("cannot destroy UDP sockets in network namespace {netns}")]
    Destroy { netns: u64, source: io::Error },
}

/// How sockets are destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `bpf_sock_destroy` in a socket iterator (Linux 6.5): checked and done under the socket's
    /// lock.
    Iterator,
    /// `SOCK_DESTROY` of sock_diag by cookie (`CONFIG_INET_DIAG_DESTROY`, `udp_diag`).
    SockDiag,
}

impl Method {
    /// The better one this kernel has.
    pub fn of_kernel() -> Self {
        let has_kfunc = Btf::from_vmlinux()
            .is_ok_and(|btf| btf.type_by_name::<Func<'_>>("bpf_sock_destroy").is_some());
        if has_kfunc { Self::Iterator } else { Self::SockDiag }
    }
}

/// What one call found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sockets that were connected to one of the targets.
    pub found: usize,
    /// Those that still are: their network namespace is not among the given ones, or the kernel
    /// refused.
    pub left: Vec<StaleSock>,
}

/// The loaded iterators.
pub struct SocketDestroyer {
    skel: BpfIterSkel<'static>,
    method: Method,
    find: Link,
    /// [`Method::Iterator`] only.
    destroy: Option<Link>,
}

impl std::fmt::Debug for SocketDestroyer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketDestroyer").field("method", &self.method).finish_non_exhaustive()
    }
}

impl SocketDestroyer {
    /// Loads the iterators over `sock_nat`. Needs Linux 5.10.
    pub fn new(sock_nat: BorrowedFd<'_>) -> Result<Self, Error> {
        Self::with_method(sock_nat, Method::of_kernel())
    }

    /// As [`Self::new`] with the given method.
    pub fn with_method(sock_nat: BorrowedFd<'_>, method: Method) -> Result<Self, Error> {
        // The skeleton borrows its object, and both live as long as the agent.
        let object = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = BpfIterSkelBuilder::default().open(object).map_err(Error::Load)?;
        open.maps.sock_nat.reuse_fd(sock_nat).map_err(Error::Load)?;
        open.progs.destroy_stale.set_autoload(method == Method::Iterator);
        let skel = open.load().map_err(Error::Load)?;

        let find = skel.progs.find_stale.attach_iter(sock_nat).map_err(Error::Load)?;
        let destroy = match method {
            Method::Iterator => {
                let link = skel.progs.destroy_stale.attach_iter_with_opts(IterOpts::None);
                Some(link.map_err(Error::Load)?)
            }
            Method::SockDiag => None,
        };
        Ok(Self { skel, method, find, destroy })
    }

    pub fn method(&self) -> Method {
        self.method
    }

    /// Destroys every connected UDP socket that a service sent to one of `gone`.
    ///
    /// `netns` are the network namespaces to reach into, usually those of this node's pods; that of
    /// the caller is always among them. One that is gone meanwhile is skipped with its sockets.
    pub fn destroy(&self, gone: &[GoneTarget], netns: &[PathBuf]) -> Result<Report, Error> {
        let mut report = Report::default();
        for gone in gone.chunks(TARGETS_PER_WALK) {
            let outcome = self.look_for(gone).and_then(|()| self.walk(netns, &mut report));
            self.look_for_nothing(gone)?;
            outcome?;
        }
        Ok(report)
    }

    fn look_for(&self, gone: &[GoneTarget]) -> Result<(), Error> {
        let targets = &self.skel.maps.gone_targets;
        gone.iter().try_for_each(|each| {
            targets.update(each.as_bytes(), &[1], MapFlags::ANY).map_err(Error::Targets)
        })
    }

    fn look_for_nothing(&self, gone: &[GoneTarget]) -> Result<(), Error> {
        let targets = &self.skel.maps.gone_targets;
        gone.iter().try_for_each(|each| match targets.delete(each.as_bytes()) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(Error::Targets(error))
            }
            _ => Ok(()),
        })
    }

    fn walk(&self, netns: &[PathBuf], report: &mut Report) -> Result<(), Error> {
        let stale = self.find()?;
        if stale.is_empty() {
            return Ok(());
        }
        report.found += stale.len();

        let mut by_netns: BTreeMap<u64, Vec<StaleSock>> = BTreeMap::new();
        for each in stale {
            by_netns.entry(u64::from(each.netns)).or_default().push(each);
        }
        let own = Path::new("/proc/thread-self/ns/net");
        for path in std::iter::once(own).chain(netns.iter().map(PathBuf::as_path)) {
            // A pod that went meanwhile took its sockets along.
            let Ok(file) = File::open(path) else { continue };
            let Ok(inode) = file.metadata().map(|metadata| metadata.ino()) else { continue };
            if let Some(stale) = by_netns.remove(&inode) {
                within(&file, || self.destroy_here(&stale))
                    .map_err(|source| Error::Destroy { netns: inode, source })?;
            }
        }
        report.left.extend(self.find()?);
        Ok(())
    }

    fn find(&self) -> Result<Vec<StaleSock>, Error> {
        let bytes = walk::read(self.find.as_fd()).map_err(Error::Walk)?;
        let records = bytes.chunks_exact(size_of::<StaleSock>());
        Ok(records.filter_map(|record| StaleSock::read_from_bytes(record).ok()).collect())
    }

    /// In the calling thread's network namespace.
    fn destroy_here(&self, stale: &[StaleSock]) -> io::Result<()> {
        match &self.destroy {
            Some(link) => walk::read(link.as_fd()).map(drop),
            None => diag::destroy(stale),
        }
    }
}

/// Runs `f` on a thread that has entered `netns`.
fn within<T: Send>(netns: &File, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            f()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
