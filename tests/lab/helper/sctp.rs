// SPDX-License-Identifier: Apache-2.0
//! Packets of SCTP (RFC 9260) by hand: not every kernel has the protocol, and services read no more
//! of it than the common header. Both sides check the CRC32c of what they get.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrStorage, sockopt,
};
use nix::sys::time::TimeVal;

use super::Answer;
use crate::interrupt::uninterrupted;

/// Bytes of the common header, and of that of a DATA chunk.
const HEADER: usize = 12;
const CHUNK: usize = 16;

/// Answers as the other servers do, on threads of its own.
pub(super) fn serve(name: &str, port: u16) -> io::Result<()> {
    for v6 in [false, true] {
        let (socket, name) = (open(v6)?, name.to_owned());
        thread::spawn(move || {
            loop {
                let Ok((from, to_port, question)) = receive(&socket, v6) else { continue };
                if to_port == port {
                    let answer = format!("{name} {from} {question}");
                    let _ = send(&socket, port, from, &answer);
                }
            }
        });
    }
    Ok(())
}

/// One question. Port 0: one that follows from the process.
pub(super) fn ask(to: SocketAddr, from_port: u16, timeout: Duration) -> io::Result<Answer> {
    let own = if from_port > 0 { from_port } else { 40000 + (std::process::id() % 20000) as u16 };
    let socket = open(to.is_ipv6())?;
    let wait = TimeVal::new(timeout.as_secs() as _, timeout.subsec_micros().into());
    socket::setsockopt(&socket, sockopt::ReceiveTimeout, &wait)?;
    send(&socket, own, to, "once")?;
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        let (seen, to_port, text) = receive(&socket, to.is_ipv6())?;
        if to_port == own {
            return Ok(Answer { text, seen });
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn open(v6: bool) -> io::Result<OwnedFd> {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    Ok(socket::socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)?)
}

fn send(socket: &OwnedFd, from_port: u16, to: SocketAddr, text: &str) -> io::Result<()> {
    // Of an odd length too, so that the sum's ends are tried.
    let mut packet = Vec::with_capacity(HEADER + CHUNK + text.len());
    packet.extend(from_port.to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    packet.extend([0, 3]); // DATA, first and last fragment.
    packet.extend(((CHUNK + text.len()) as u16).to_be_bytes());
    packet.extend([0; CHUNK - 4]);
    packet.extend(text.as_bytes());
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    // The port of a raw socket's peer is a protocol or nothing.
    let peer = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    socket::sendto(socket.as_raw_fd(), &packet, &peer, MsgFlags::empty())?;
    Ok(())
}

/// Source, destination port and text of the next packet whose CRC is right.
fn receive(socket: &OwnedFd, v6: bool) -> io::Result<(SocketAddr, u16, String)> {
    let mut buffer = [0; 2048];
    loop {
        let (length, from): (usize, Option<SockaddrStorage>) =
            uninterrupted(|| Ok(socket::recvfrom(socket.as_raw_fd(), &mut buffer)?))?;
        // Only IPv4 comes with its header.
        let start = if v6 { 0 } else { usize::from(buffer[0] & 0xf) * 4 };
        let Some(packet) = buffer.get_mut(start..length).filter(|p| p.len() >= HEADER + CHUNK)
        else {
            continue;
        };
        let sum: Vec<u8> = packet[8..12].to_vec();
        packet[8..12].fill(0);
        if crc32c(packet).to_le_bytes() != *sum {
            continue;
        }
        let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let from = SocketAddr::new(address(from, v6), port(0));
        let text = String::from_utf8_lossy(&packet[HEADER + CHUNK..]).into_owned();
        return Ok((from, port(2), text));
    }
}

fn address(from: Option<SockaddrStorage>, v6: bool) -> IpAddr {
    let from = from.as_ref();
    if v6 {
        let from = from.and_then(|from| from.as_sockaddr_in6());
        from.map_or(Ipv6Addr::UNSPECIFIED, SockaddrIn6::ip).into()
    } else {
        let from = from.and_then(|from| from.as_sockaddr_in());
        from.map_or(Ipv4Addr::UNSPECIFIED, SockaddrIn::ip).into()
    }
}

/// RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
