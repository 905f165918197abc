// SPDX-License-Identifier: Apache-2.0
//! `bpf/lib/addr.h`: one 16-byte address for both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An address as maps hold it: network byte order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
///
/// Aligned like the C struct, so that every struct it is part of has the C layout.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Default,
)]
#[repr(C, align(8))]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// No address at all; also the IPv6 wildcard.
    pub const ZERO: Self = Self([0; 16]);

    /// The vip of an IPv4 wildcard frontend.
    pub const V4_WILDCARD: Self = Self::from_v4(Ipv4Addr::UNSPECIFIED);

    /// The vip of an IPv6 wildcard frontend.
    pub const V6_WILDCARD: Self = Self::ZERO;

    pub const fn from_v4(v4: Ipv4Addr) -> Self {
        Self(v4.to_ipv6_mapped().octets())
    }

    pub fn is_v4(&self) -> bool {
        Ipv6Addr::from(self.0).to_ipv4_mapped().is_some()
    }

    /// The address in its own family.
    pub fn ip(&self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.0);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4(v4),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["10.0.0.1", "0.0.0.0", "fd00::1", "::", "fe80::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Addr::from(ip).ip(), ip);
        }
    }

    #[test]
    fn the_two_wildcards_differ() {
        assert_ne!(Addr::V4_WILDCARD, Addr::V6_WILDCARD);
    }
}
