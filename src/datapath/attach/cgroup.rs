// SPDX-License-Identifier: Apache-2.0
//! The socket programs on their cgroup.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use libbpf_rs::ProgramType;
use nix::sys::statfs::CGROUP2_SUPER_MAGIC;

use super::{Error, Place, name};
use crate::datapath::Datapath;
use crate::datapath::host;
use crate::datapath::load::Loaded;
use crate::datapath::sys::LinkTarget;

pub(super) fn attach(datapath: &Datapath, cgroup: &Path) -> Result<(), Error> {
    let failed = |source| Error::Attach {
        program: "bpf_sock".to_owned(),
        target: cgroup.display().to_string(),
        source,
    };
    // Before anything is touched: links to the right cgroup may be pinned.
    if !host::is_mounted(cgroup, CGROUP2_SUPER_MAGIC).map_err(failed)? {
        return Err(Error::NotCgroup { path: cgroup.to_owned() });
    }
    let directory = File::open(cgroup).map_err(failed)?;
    // On 64-bit kernels a cgroup's id is its directory's inode number.
    let id = directory.metadata().map_err(failed)?.ino();
    let on =
        Place { target: directory.as_raw_fd(), name: name::CGROUP, live: LinkTarget::Cgroup(id) };

    let mut attached = Vec::new();
    for program in datapath.objects.iter().flat_map(Loaded::programs) {
        if matches!(program.prog_type(), ProgramType::CgroupSock | ProgramType::CgroupSockAddr) {
            datapath.link(&program, &on, program.attach_type() as u32, 0)?;
            attached.push(program.name().to_string_lossy().into_owned());
        }
    }
    // A former version's programs that this one does not have, or has off.
    datapath.unpin(|pin| pin.device == name::CGROUP && !attached.contains(&pin.program))
}
