// SPDX-License-Identifier: Apache-2.0
//! The sysctls of one device, in the namespace of the calling thread.

use std::io;
use std::path::PathBuf;

/// Lets the host route between `device` and everything else: the pod's packets do not come from
/// where the FIB would send the answer when a service translated them, so reverse path filtering
/// must not see them, and both `bpf_fib_lookup` and the stack ask whether the device forwards.
///
/// # Errors
/// A sysctl of IPv4 cannot be written. A host without IPv6 is no error.
pub fn let_forward(device: &str) -> io::Result<()> {
    set(4, device, "rp_filter", "0")?;
    set(4, device, "forwarding", "1")?;
    if path(6, device, "forwarding").exists() {
        set(6, device, "forwarding", "1")?;
        // The pod's link-local address is no router; nobody advertises here.
        set(6, device, "accept_ra", "0")?;
    }
    Ok(())
}

fn path(family: u8, device: &str, name: &str) -> PathBuf {
    format!("/proc/sys/net/ipv{family}/conf/{device}/{name}").into()
}

fn set(family: u8, device: &str, name: &str, value: &str) -> io::Result<()> {
    let path = path(family, device, name);
    std::fs::write(&path, value).map_err(|cause| {
        io::Error::new(
            cause.kind(),
            format!("cannot write {value} to `{}`: {cause}", path.display()),
        )
    })
}
