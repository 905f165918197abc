// SPDX-License-Identifier: Apache-2.0
//! One request and its answer, for those who cannot wait for a task.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Sends `request`, a whole message of route netlink, in the calling thread's network namespace.
/// Returns how much of `answer` was filled.
pub(in crate::datapath) fn call(request: &[u8], answer: &mut [u8]) -> io::Result<usize> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(netlink.as_raw_fd(), request, MsgFlags::empty())?;
    Ok(recv(netlink.as_raw_fd(), answer, MsgFlags::empty())?)
}
