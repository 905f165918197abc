// SPDX-License-Identifier: Apache-2.0
//! The driver hook of external devices.

use std::io;
use std::os::fd::AsFd as _;

use libbpf_rs::libbpf_sys as raw;

use super::{Datapath, Error, Place, XDP, name};
use crate::datapath::pins;
use crate::datapath::sys::{self, LinkTarget};

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// The driver, before there is an skb.
    Native,
    /// The kernel, on an skb: slower than tc, for tests on devices without driver support.
    Generic,
}

impl XdpMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flag(self) -> u32 {
        match self {
            Self::Native => raw::XDP_FLAGS_DRV_MODE,
            Self::Generic => raw::XDP_FLAGS_SKB_MODE,
        }
    }

    const fn attached(self) -> u32 {
        match self {
            Self::Native => raw::XDP_ATTACHED_DRV,
            Self::Generic => raw::XDP_ATTACHED_SKB,
        }
    }
}

impl Datapath {
    /// Attaches the driver hook of an external device, or swaps what is attached there. A link of
    /// the other mode goes first: for a moment the device has none, and tc serves.
    ///
    /// # Errors
    /// The driver refuses, in words; or another program is attached.
    pub fn attach_xdp(&self, ifindex: u32, device: &str, mode: XdpMode) -> Result<(), Error> {
        let program = self.loaded(XDP)?;
        if self.has_xdp(ifindex, device)
            && sys::xdp_attached(ifindex).is_ok_and(|attached| attached != mode.attached())
        {
            self.detach_xdp(device)?;
        }
        let on = Place { target: ifindex as i32, name: device, live: LinkTarget::Xdp(ifindex) };
        self.link(&program, &on, raw::BPF_XDP, mode.flag()).map_err(|error| match error {
            Error::Attach { target, source, .. } => {
                Error::Xdp { device: target, why: refusal(&source, mode), source }
            }
            other => other,
        })
    }

    /// Whether a link of ours, of this agent or of one before it, is at work on the device.
    pub fn has_xdp(&self, ifindex: u32, device: &str) -> bool {
        let path = pins::links_dir(&self.options.root).join(name::pin(device, XDP));
        sys::obj_get(&path)
            .and_then(|link| sys::link_info(link.as_fd()))
            .is_ok_and(|(target, _)| target == LinkTarget::Xdp(ifindex))
    }

    /// Takes the driver hook off a device.
    pub fn detach_xdp(&self, device: &str) -> Result<(), Error> {
        self.unpin(|name| name.device == device && name.program == XDP)
    }

    /// Takes the driver hook off every device.
    pub fn detach_all_xdp(&self) -> Result<(), Error> {
        self.unpin(|name| name.program == XDP)
    }
}

/// What a driver's error means. The text that the driver itself has for it stays in the kernel.
fn refusal(error: &io::Error, mode: XdpMode) -> &'static str {
    match (error.raw_os_error(), mode) {
        (Some(libc::EBUSY | libc::EEXIST), _) => "another XDP program is attached",
        (Some(libc::EOPNOTSUPP), XdpMode::Native) => "the driver has no XDP",
        (Some(libc::ERANGE | libc::EMSGSIZE | libc::E2BIG), _) => {
            "the MTU is too large for an XDP program on this driver and kernel"
        }
        (Some(libc::EINVAL), _) => {
            "the driver refuses: the MTU is too large, or its channels or offloads (LRO) are in \
             the way"
        }
        (Some(libc::ENOMEM | libc::ENOSPC), _) => "the driver lacks queues or memory for it",
        (Some(libc::ENODEV), _) => "the device is gone",
        _ => "the kernel refuses",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_is_put_into_words() {
        for (errno, words) in [
            (libc::EOPNOTSUPP, "the driver has no XDP"),
            (libc::EBUSY, "another XDP program is attached"),
            (libc::EEXIST, "another XDP program is attached"),
            (libc::ERANGE, "the MTU is too large for an XDP program"),
            (libc::EMSGSIZE, "the MTU is too large for an XDP program"),
            (libc::E2BIG, "the MTU is too large for an XDP program"),
            // What most drivers say, whatever they mean.
            (libc::EINVAL, "the driver refuses: the MTU is too large, or its channels or offloads"),
            (libc::ENOMEM, "the driver lacks queues or memory"),
            (libc::ENOSPC, "the driver lacks queues or memory"),
            (libc::ENODEV, "the device is gone"),
            (libc::EPERM, "the kernel refuses"),
        ] {
            let said = refusal(&io::Error::from_raw_os_error(errno), XdpMode::Native);
            assert!(said.starts_with(words), "{errno}: {said}");
        }
        // In the kernel's own hook no driver has a say.
        let error = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        assert_eq!(refusal(&error, XdpMode::Generic), "the kernel refuses");
    }
}
