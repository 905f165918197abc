// SPDX-License-Identifier: Apache-2.0
//! All devices at once, where programs go over to other maps.

use std::os::fd::{AsFd as _, OwnedFd};

use libbpf_rs::ProgramMut;

use super::{Datapath, Error, XDP, clsact, list};
use crate::datapath::sys::{self, LinkTarget};

impl Datapath {
    /// Puts the loaded programs under all live links on devices that an earlier agent has pinned, and
    /// in the place of its filters of clsact (below Linux 6.6). A connection whose two directions met
    /// different maps would be answered untranslated, so nothing but the swaps themselves comes
    /// between the first and the last.
    ///
    /// What fails here is swapped when its device is attached, and the failure told there.
    ///
    /// # Errors
    /// The directory of pins cannot be read.
    pub(in crate::datapath) fn swap_attached(&self) -> Result<(), Error> {
        let mut swaps: Vec<(OwnedFd, ProgramMut<'_>)> = Vec::new();
        for (pin, link, target) in list::live_links(&self.options.root)? {
            let on_device = matches!(target, LinkTarget::Tcx(_) | LinkTarget::Xdp(_));
            if let Some(program) = self.program(&pin.program).filter(|_| on_device) {
                swaps.push((link, program));
            }
        }
        let filters = clsact::all();
        let filters: Vec<_> = filters
            .iter()
            .filter_map(|filter| Some((filter, self.program(&filter.program)?)))
            .collect();
        // A driver may take its time, so it does not stand between the others.
        swaps.sort_by_key(|(_, program)| program.name() == XDP);
        for (filter, program) in &filters {
            if let Err(error) = filter.replace(program.as_fd()) {
                tracing::debug!(?filter, %error, "not swapped yet");
            }
        }
        for (link, program) in &swaps {
            if let Err(error) = sys::link_update(link.as_fd(), program.as_fd()) {
                tracing::debug!(program = ?program.name(), %error, "not swapped yet");
            }
        }
        Ok(())
    }
}
