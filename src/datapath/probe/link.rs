// SPDX-License-Identifier: Apache-2.0
//! Whether the kernel makes devices of a kind.

use std::io;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::checks::Answer;
use crate::datapath::netlink::call;

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Reply {
    header: Header,
    /// Negative errno.
    error: i32,
}

/// Asks for a device of a tunnel kind without saying what tunnel. A kernel that knows the kind (or
/// finds its module) misses the parameters, one that does not finds the kind unknown; neither
/// makes a device.
pub(super) fn kind(kind: &str) -> Answer {
    let tried = format!("request of a {kind} device without parameters");
    match ask(kind) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Answer::yes(tried),
        Err(error) => Answer::no(format!("{tried}: {error}")),
        Ok(()) => Answer::no(format!("{tried}: it was made")),
    }
}

fn ask(kind: &str) -> io::Result<()> {
    let info = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind.as_bytes()));
    // `struct ifinfomsg`, which names no device.
    let body = [vec![0; 16], info].concat();
    let header = Header {
        len: (size_of::<Header>() + body.len()) as u32,
        kind: RTM_NEWLINK,
        flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        sequence: 1,
        port: 0,
    };
    let mut buffer = [0; 1024];
    let len = call(&[header.as_bytes(), &body].concat(), &mut buffer)?;
    let (reply, _) = Reply::read_from_prefix(&buffer[..len])
        .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    match reply.error {
        0 if reply.header.kind == NLMSG_ERROR => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// A netlink attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = (4 + value.len()) as u16;
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_nobody_has_is_absent_and_asking_makes_no_device() {
        let before = nix::net::if_::if_nameindex().unwrap().iter().count();
        let answer = kind("culvert-none");
        assert!(!answer.present && answer.detail.contains("not supported"), "{}", answer.detail);
        // A tunnel that this kernel may or may not have: it is told either way.
        for tunnel in ["vxlan", "geneve"] {
            let answer = kind(tunnel);
            let unknown = answer.detail.contains("not supported");
            let refused = answer.detail.contains("not permitted");
            assert!(answer.present || unknown || refused, "{}", answer.detail);
        }
        assert_eq!(nix::net::if_::if_nameindex().unwrap().iter().count(), before);
    }
}
