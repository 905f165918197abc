// SPDX-License-Identifier: Apache-2.0
//! Opens connections from addresses of nobody, and never goes on with any.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage,
};

/// About 20,000 a second: more than any table of a test holds, and room for others on the machine.
const BURST: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// SYNs to `to` from random addresses and ports until standard input ends. Prints how many.
pub(super) fn flood(to: SocketAddr) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
    });
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let raw = socket::socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    // The port of a raw socket's peer is a protocol or nothing.
    let peer = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    let mut sent = 0_u64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while !ended.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            // Xorshift: the same addresses each time are random enough.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match socket::sendto(raw.as_raw_fd(), &syn(state, to), &peer, MsgFlags::empty()) {
                Ok(_) => sent += 1,
                // The queue is full: that is what floods are like.
                Err(nix::errno::Errno::ENOBUFS) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        thread::sleep(PAUSE);
    }
    println!("{sent}");
    Ok(())
}

/// An IP packet. The kernel fills in an IPv4 header's checksum.
fn syn(random: u64, to: SocketAddr) -> Vec<u8> {
    let host = random.to_be_bytes();
    let (mut packet, pseudo) = match to.ip() {
        IpAddr::V4(to) => {
            let from = [11, host[0], host[1], host[2]];
            let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
            packet.extend(from);
            packet.extend(to.octets());
            let pseudo: Vec<u8> = from.into_iter().chain(to.octets()).collect();
            (packet, pseudo)
        }
        IpAddr::V6(to) => {
            let mut from = [0; 16];
            from[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0xf1, 0x00]);
            from[10..].copy_from_slice(&host[..6]);
            let mut packet = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
            packet.extend(from);
            packet.extend(to.octets());
            let pseudo: Vec<u8> = from.into_iter().chain(to.octets()).collect();
            (packet, pseudo)
        }
    };
    let from_port = 1024 | u16::from_be_bytes([host[6], host[7]]);
    let mut tcp = Vec::with_capacity(20);
    tcp.extend(from_port.to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(&host[..4]); // Sequence number.
    tcp.extend([0; 4]);
    tcp.extend([5 << 4, 0x02]); // Header of five words, SYN.
    tcp.extend(64240_u16.to_be_bytes());
    tcp.extend([0; 4]);
    let checksum = checksum(&[&pseudo, &[0, 6, 0, 20], &tcp]);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(tcp);
    packet
}

/// RFC 1071, over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
