// SPDX-License-Identifier: Apache-2.0
//! ICMP errors about translated packets: whoever sent what they quote must recognise it.

use std::net::{IpAddr, SocketAddr};

use super::entry::Entry;
use super::judge::Judge;
use super::view::{ETHERNET, Ends, View};
use super::world::Dispatch;

const OPTION_V4: usize = ETHERNET + 20;
const OPTION_V6: usize = ETHERNET + 40;

/// The packet that an error quotes, maybe cut short.
struct Quote {
    /// A frame again.
    frame: Vec<u8>,
    proto: u8,
    ends: Ends,
    /// Offset of the ports.
    l4: usize,
    /// Bytes of its option, 0 without one.
    option: usize,
    /// What that says: the service and the client.
    says: Option<Ends>,
}

impl Quote {
    fn of(error: &View<'_>) -> Option<Self> {
        let rest = error.frame.get(error.l4 + 8..)?;
        let frame = [&error.frame[..ETHERNET], rest].concat();
        let mut view = View::of(&frame)?;
        let at = if view.v6 { OPTION_V6 } else { OPTION_V4 };
        let mut option = 0;
        if view.v6 && view.proto == 60 && frame.get(at + 2) == Some(&0x1b) {
            option = (usize::from(frame[at + 1]) + 1) * 8;
            view.proto = frame[at];
            view.l4 = at + option;
        } else if !view.v6 && view.l4 > at && frame.get(at) == Some(&0x9a) {
            option = usize::from(*frame.get(at + 1)?);
        }
        let ends = view.ends();
        let says = says(&frame, at, option, ends.0);
        let (proto, l4) = (view.proto, view.l4);
        view.has_ports().then_some(Self { proto, ends, l4, option, says, frame })
    }

    /// Without what a translation may change.
    fn rest(&self) -> Vec<u8> {
        let mut rest = self.frame.clone();
        rest[..12].fill(0);
        if rest[ETHERNET] >> 4 == 6 {
            rest[ETHERNET + 8..OPTION_V6].fill(0);
        } else {
            rest[ETHERNET + 10..OPTION_V4].fill(0);
        }
        rest[self.l4..self.l4 + 4].fill(0);
        rest
    }
}

/// What the option of `size` bytes at `at` says of a packet from `client`.
fn says(frame: &[u8], at: usize, size: usize, client: SocketAddr) -> Option<Ends> {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (least, read, plain) = if client.is_ipv6() { (24, 24, 20) } else { (8, 16, 8) };
    let option = frame.get(at..at + read).filter(|_| size >= least)?;
    let (service, length, client_port): (SocketAddr, _, _) = if client.is_ipv6() {
        let vip = <[u8; 16]>::try_from(&option[4..20]).unwrap();
        ((IpAddr::from(vip), port(at + 20)).into(), option[3], port(at + 22))
    } else {
        let vip = <[u8; 4]>::try_from(&option[4..8]).unwrap();
        ((IpAddr::from(vip), port(at + 2)).into(), option[1], port(at + 8))
    };
    let client_port = if length == plain { client.port() } else { client_port };
    Some((service, SocketAddr::new(client.ip(), client_port)))
}

/// The bytes of the error's own header, behind its checksum. The client's packets have no `option`:
/// the MTU that it is told leaves room for one.
fn told(error: &View<'_>, option: usize) -> Vec<u8> {
    let mut icmp = error.frame[error.l4..error.l4 + 8].to_vec();
    let at = match (error.v6, icmp[0], icmp[1]) {
        (true, 2, 0) => 4..8,
        (false, 3, 4) => 6..8,
        _ => 8..8,
    };
    let mtu = icmp[at.clone()].iter().fold(0_u64, |mtu, byte| mtu << 8 | u64::from(*byte));
    if mtu > option as u64 {
        let lowered = (mtu - option as u64).to_be_bytes();
        icmp[at.clone()].copy_from_slice(&lowered[8 - at.len()..]);
    }
    icmp[2..4].fill(0);
    icmp
}

impl Judge {
    /// An ICMP error about a translated packet: the quote becomes what its sender sent.
    pub(super) fn error(
        &self,
        entry: Entry,
        before: &View<'_>,
        after: &View<'_>,
    ) -> Result<(), String> {
        let (Some(old), Some(new)) = (Quote::of(before), Quote::of(after)) else {
            return Err("an error without a quote, or a broken one, was translated".to_owned());
        };
        // The quoted packet is on its way out: undo what was done to it.
        let undone = (new.ends.1, new.ends.0);
        let made = (old.ends.1, old.ends.0);
        // A node that knows nothing of the packet goes by what its option says.
        let says =
            old.says.filter(|_| entry == Entry::FromNetdev && self.dispatch != Dispatch::Off);
        // Or by the way on which its packet came to its end here.
        let joined = entry == Entry::FromNetdev && self.may_join(old.proto, made, undone);
        if !self.knows(old.proto, made, undone) && says != Some(undone) && !joined {
            return Err(format!("the quote {made:?} became {undone:?}, which nobody sent"));
        }
        if old.rest() != new.rest() {
            return Err("something besides addresses and ports changed in the quote".to_owned());
        }
        if told(before, old.option) != told(after, 0) {
            return Err(format!("what it says became {:02x?}", told(after, 0)));
        }
        if after.dst != new.ends.0.ip() {
            return Err("the error does not go to whom it quotes".to_owned());
        }
        // Who complains of what came to itself is known by the service's address, a router by its own.
        let from = if before.src == old.ends.1.ip() { new.ends.1.ip() } else { before.src };
        if after.src != from {
            return Err(format!("the error comes from {}, not {from}", after.src));
        }
        let sums = |frame: &[u8]| View::of(frame).map(|view| view.header_residue());
        if sums(&old.frame) != sums(&new.frame) {
            return Err("the quoted header's checksum does not fit".to_owned());
        }
        if before.residue() != after.residue() {
            return Err("the ICMP checksum does not fit".to_owned());
        }
        if before.header_residue() != after.header_residue() {
            return Err("the IPv4 header checksum does not fit".to_owned());
        }
        Ok(())
    }
}
