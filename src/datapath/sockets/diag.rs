// SPDX-License-Identifier: Apache-2.0
//! `SOCK_DESTROY` by cookie (`linux/sock_diag.h`, `linux/inet_diag.h`), Linux 4.5.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use zerocopy::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::{Addr, StaleSock};

const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_req_v2` behind its netlink header. The cookie is two 32-bit halves, low first.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    sport: U16,
    dport: U16,
    src: [u8; 16],
    dst: [u8; 16],
    ifindex: u32,
    cookie: [u32; 2],
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Answer {
    header: Header,
    /// Negative errno, 0 for done.
    error: i32,
}

/// Destroys these sockets of the calling thread's network namespace. One that is no more is fine.
pub(super) fn destroy(stale: &[StaleSock]) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    for (sequence, each) in (1..).zip(stale) {
        let request = request(each, sequence);
        send(netlink.as_raw_fd(), request.as_bytes(), MsgFlags::empty())?;

        // The answer carries the request, so it fits whatever follows.
        let mut buffer = [0; 256];
        let len = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let (answer, _) = Answer::read_from_prefix(&buffer[..len])
            .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        if answer.header.kind != NLMSG_ERROR {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        match -answer.error {
            // ESTALE: another socket has the addresses now.
            0 | libc::ENOENT | libc::ESTALE => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    Ok(())
}

fn request(stale: &StaleSock, sequence: u32) -> Request {
    Request {
        header: Header {
            len: size_of::<Request>() as u32,
            kind: SOCK_DESTROY,
            flags: NLM_F_REQUEST | NLM_F_ACK,
            sequence,
            port: 0,
        },
        family: stale.family as u8,
        protocol: libc::IPPROTO_UDP as u8,
        extensions: 0,
        pad: 0,
        states: u32::MAX,
        sport: stale.local_port,
        dport: stale.peer_port,
        src: diag_addr(&stale.local, stale.family),
        dst: diag_addr(&stale.peer, stale.family),
        ifindex: stale.ifindex,
        cookie: [stale.cookie as u32, (stale.cookie >> 32) as u32],
    }
}

/// sock_diag has IPv4 addresses in the first four bytes, and mapped ones of IPv6 sockets as such.
fn diag_addr(addr: &Addr, family: u16) -> [u8; 16] {
    if i32::from(family) == libc::AF_INET6 {
        return addr.0;
    }
    let mut plain = [0; 16];
    plain[..4].copy_from_slice(&addr.0[12..]);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_laid_out_as_inet_diag_req_v2() {
        let stale = StaleSock {
            cookie: 0x1_0000_0002,
            local: "10.0.0.1".parse::<std::net::IpAddr>().unwrap().into(),
            peer: "10.0.0.2".parse::<std::net::IpAddr>().unwrap().into(),
            netns: 7,
            ifindex: 3,
            local_port: 4000.into(),
            peer_port: 53.into(),
            family: libc::AF_INET as u16,
            pad: 0,
        };
        let request = request(&stale, 1);
        let bytes = request.as_bytes();
        assert_eq!(bytes.len(), 16 + 56);
        assert_eq!(bytes[16..20], [2, 17, 0, 0]);
        assert_eq!(bytes[24..28], [0x0f, 0xa0, 0, 53]);
        assert_eq!(bytes[28..32], [10, 0, 0, 1]);
        assert_eq!(bytes[44..48], [10, 0, 0, 2]);
        assert_eq!(bytes[60..64], 3_u32.to_ne_bytes());
        assert_eq!(bytes[64..72], [2, 0, 0, 0, 1, 0, 0, 0]);
    }
}
