// SPDX-License-Identifier: Apache-2.0
//! What is attached, as pinned links tell it, whether an agent runs or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::{Error, name};
use crate::datapath::pins;
use crate::datapath::sys::{self, LinkTarget};

/// Every pinned link that lives, with what it is on. Filters of clsact (below Linux 6.6) are not pinned.
///
/// # Errors
/// The directory of pins below `root` cannot be read.
pub(super) fn live_links(root: &Path) -> Result<Vec<(name::Pin, OwnedFd, LinkTarget)>, Error> {
    let dir = pins::links_dir(root);
    let failed = |source| Error::List { path: dir.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(pin) = name::parse(&entry.file_name().to_string_lossy()) else { continue };
        let Ok(link) = sys::obj_get(&entry.path()) else { continue };
        match sys::link_info(link.as_fd()) {
            Ok((LinkTarget::Tcx(0) | LinkTarget::Xdp(0) | LinkTarget::Cgroup(0), _)) | Err(_) => {}
            Ok((target, _)) => found.push((pin, link, target)),
        }
    }
    Ok(found)
}

/// Programs by the device that they are on, `cgroup` for those that see sockets. Dead links count
/// for nothing, and neither do filters of clsact.
///
/// # Errors
/// As of [`live_links`].
pub fn attached(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (pin, ..) in live_links(root)? {
        let device = pin.device.trim_end_matches(':').to_owned();
        found.entry(device).or_default().insert(pin.program);
    }
    Ok(found)
}
