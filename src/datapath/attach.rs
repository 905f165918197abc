// SPDX-License-Identifier: Apache-2.0
//! Ties programs to devices and to the cgroup, and keeps them tied across restarts.
//!
//! Every link is pinned. A restarted agent finds the pin and swaps the program under the link in
//! one step, so that no packet meets no program. A link whose device or cgroup is gone is dead: it
//! is found out, thrown away and made anew.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use libbpf_rs::{ProgramMut, libbpf_sys as raw};
use thiserror::Error;

use super::sys::{self, LinkTarget};
use super::{Datapath, pins};

mod cgroup;
mod cleanup;
mod clsact;
mod list;
mod name;
mod swap;
mod xdp;

pub use cleanup::{Removed, cleanup};
pub use list::attached;
pub use xdp::XdpMode;

/// Why a program is not where it should be.
#[derive(Debug, Error)]
pub enum Error {
    #[error("program `{program}` is not loaded")]
    NotLoaded { program: String },

    #[error("`{}` is no directory of a cgroup v2 tree; set `cgroupRoot` to one", path.display())]
    NotCgroup { path: PathBuf },

    #[error("cannot attach `{program}` to `{target}`")]
    Attach { program: String, target: String, source: io::Error },

    #[error("no XDP on `{device}`: {why}")]
    Xdp { device: String, why: &'static str, source: io::Error },

    #[error("cannot replace `{program}` on `{target}`")]
    Replace { program: String, target: String, source: io::Error },

    #[error("cannot pin the link of `{program}` on `{target}`")]
    Pin { program: String, target: String, source: io::Error },

    #[error("cannot detach what is pinned as `{}`", path.display())]
    Detach { path: PathBuf, source: io::Error },

    #[error("cannot read the pinned links in `{}`", path.display())]
    List { path: PathBuf, source: io::Error },
}

/// How a device's packets reach the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// TCX links, Linux 6.6.
    Tcx,
    /// Filters on a clsact qdisc, with a handle and a priority of our own.
    Clsact,
}

impl Mechanism {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// The direction a program sees, from the device's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ingress,
    Egress,
}

const POD: [(&str, Side); 2] = [("from_container", Side::Ingress), ("to_container", Side::Egress)];
const UPLINK: [(&str, Side); 2] = [("from_netdev", Side::Ingress), ("to_netdev", Side::Egress)];
const OVERLAY: [(&str, Side); 2] = [("from_overlay", Side::Ingress), ("to_overlay", Side::Egress)];
const XDP: &str = "xdp_entry";

impl Datapath {
    /// How this kernel, and the options, have devices attached.
    pub fn mechanism(&self) -> Mechanism {
        if self.tcx { Mechanism::Tcx } else { Mechanism::Clsact }
    }

    /// Attaches to the host side of a pod's veth pair, or swaps what is attached there.
    pub fn attach_pod(&self, ifindex: u32, device: &str) -> Result<(), Error> {
        self.attach_tc(ifindex, device, POD)
    }

    /// Attaches to an external device, or swaps what is attached there.
    pub fn attach_uplink(&self, ifindex: u32, device: &str) -> Result<(), Error> {
        self.attach_tc(ifindex, device, UPLINK)
    }

    /// Attaches to the tunnel device, or swaps what is attached there.
    pub fn attach_overlay(&self, ifindex: u32, device: &str) -> Result<(), Error> {
        self.attach_tc(ifindex, device, OVERLAY)
    }

    /// Attaches all socket programs to a cgroup, given by its directory, and with it to every
    /// process below it.
    pub fn attach_cgroup(&self, cgroup: &Path) -> Result<(), Error> {
        cgroup::attach(self, cgroup)
    }

    /// Takes the socket programs off; sockets they translated stay connected.
    pub fn detach_cgroup(&self) -> Result<(), Error> {
        self.unpin(|name| name.device == name::CGROUP)
    }

    /// Takes every program off a device. Its being gone already is no failure.
    pub fn detach(&self, ifindex: u32, device: &str) -> Result<(), Error> {
        self.unpin(|name| name.device == device)?;
        clsact::remove(ifindex as i32);
        Ok(())
    }

    /// Takes programs off all devices but `wanted`, and in drivers but off `xdp`: those that left
    /// while no agent ran.
    pub fn detach_others(
        &self,
        wanted: &BTreeSet<String>,
        xdp: &BTreeSet<String>,
    ) -> Result<(), Error> {
        self.unpin(|name| {
            let wanted = if name.program == XDP { xdp } else { wanted };
            name.device != name::CGROUP && !wanted.contains(&name.device)
        })?;
        for device in nix::net::if_::if_nameindex().iter().flatten() {
            if !wanted.contains(&*device.name().to_string_lossy()) {
                clsact::remove(device.index() as i32);
            }
        }
        Ok(())
    }

    fn attach_tc(
        &self,
        ifindex: u32,
        device: &str,
        programs: [(&str, Side); 2],
    ) -> Result<(), Error> {
        for (name, side) in programs {
            let program = self.loaded(name)?;
            if self.tcx {
                let live = LinkTarget::Tcx(ifindex);
                let on = Place { target: ifindex as i32, name: device, live };
                let attach_type = match side {
                    Side::Ingress => raw::BPF_TCX_INGRESS,
                    Side::Egress => raw::BPF_TCX_EGRESS,
                };
                self.link(&program, &on, attach_type, 0)?;
            } else {
                clsact::attach(program.as_fd(), ifindex as i32, side).map_err(|source| {
                    Error::Attach { program: name.to_owned(), target: device.to_owned(), source }
                })?;
            }
        }
        // The other mechanism's leftovers would run the packet through a second time. They go last,
        // so that there is no moment without a program.
        if self.tcx {
            clsact::remove(ifindex as i32);
            return Ok(());
        }
        let ours = |name: &str| programs.iter().any(|(each, _)| *each == name);
        self.unpin(|name| name.device == device && ours(&name.program))
    }

    fn loaded(&self, name: &str) -> Result<ProgramMut<'_>, Error> {
        self.program(name).ok_or_else(|| Error::NotLoaded { program: name.to_owned() })
    }

    /// Swaps the program under the pinned link if that is alive, else makes a link and pins it.
    fn link(
        &self,
        program: &ProgramMut<'_>,
        on: &Place<'_>,
        attach_type: u32,
        flags: u32,
    ) -> Result<(), Error> {
        let name = program.name().to_string_lossy().into_owned();
        let path = pins::links_dir(&self.options.root).join(name::pin(on.name, &name));
        let failed = || (name.clone(), on.name.to_owned());

        if let Ok(link) = sys::obj_get(&path) {
            let alive = sys::link_info(link.as_fd()).is_ok_and(|(target, _)| target == on.live);
            if alive {
                match sys::link_update(link.as_fd(), program.as_fd()) {
                    Ok(()) => return Ok(()),
                    // The device went away between the two calls: the link is dead after all.
                    Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                    Err(source) => {
                        let (program, target) = failed();
                        return Err(Error::Replace { program, target, source });
                    }
                }
            }
            tracing::info!(target = on.name, program = name, "dead link replaced");
        }
        remove_pin(&path)?;

        let link =
            sys::link_create(program.as_fd(), on.target, attach_type, flags).map_err(|source| {
                let (program, target) = failed();
                Error::Attach { program, target, source }
            })?;
        sys::obj_pin(link.as_fd(), &path).map_err(|source| {
            let (program, target) = failed();
            Error::Pin { program, target, source }
        })
    }

    fn unpin(&self, choose: impl Fn(&name::Pin) -> bool) -> Result<(), Error> {
        unpin(&self.options.root, choose).map(drop)
    }
}

/// Where a link goes.
struct Place<'a> {
    /// ifindex, or the descriptor of a cgroup directory.
    target: i32,
    name: &'a str,
    /// What a live link says that it is on.
    live: LinkTarget,
}

/// Takes off the links that `choose` picks, and removes their pins.
fn unpin(root: &Path, choose: impl Fn(&name::Pin) -> bool) -> Result<Vec<String>, Error> {
    let dir = pins::links_dir(root);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::List { path: dir, source }),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::List { path: dir.clone(), source })?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if name::parse(&file).is_some_and(|pin| choose(&pin)) {
            if let Ok(link) = sys::obj_get(&entry.path()) {
                // A dead link has nothing to be taken off of, and its pin goes all the same.
                if let Err(error) = sys::link_detach(link.as_fd()) {
                    tracing::debug!(link = file, %error, "not detached, only unpinned");
                }
            }
            remove_pin(&entry.path())?;
            removed.push(file);
        }
    }
    Ok(removed)
}

fn remove_pin(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Detach { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
