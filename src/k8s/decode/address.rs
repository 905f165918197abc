// SPDX-License-Identifier: Apache-2.0
//! Addresses and ranges as Kubernetes accepts them.
//!
//! Objects from before Kubernetes 1.33 may hold IPv4 octets with leading zeros, read as decimal,
//! IPv4-mapped IPv6 addresses, and ranges with host bits set (KEP-4858). They are in use, so they
//! are read as kube-proxy reads them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Fault;

pub(super) fn ip(text: &str) -> Result<IpAddr, Fault> {
    text.parse()
        .ok()
        .or_else(|| padded_ipv4(text).map(IpAddr::V4))
        .map(|ip: IpAddr| ip.to_canonical())
        .ok_or_else(|| Fault::NotAnAddress(text.to_owned()))
}

/// The range, host bits cleared.
pub(super) fn cidr(text: &str) -> Result<IpNet, Fault> {
    let fault = || Fault::NotACidr(text.to_owned());
    let (address, length) = text.trim().split_once('/').ok_or_else(fault)?;
    let address = ip(address).map_err(|_| fault())?;
    let length = length.parse().map_err(|_| fault())?;
    IpNet::new(address, length).map(|net| net.trunc()).map_err(|_| fault())
}

fn padded_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        *octet = part.parse().ok().filter(|_| digits)?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_kubernetes_reads_them() {
        let table = [
            ("10.96.0.10", "10.96.0.10"),
            ("010.096.000.010", "10.96.0.10"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("fd00::0001", "fd00::1"),
        ];
        for (text, expected) in table {
            assert_eq!(ip(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "10.0.0", "10.0.0.0.1", "10.0.0.256", "10.0.0.+1", "fd00::g", "web"] {
            assert_eq!(ip(text), Err(Fault::NotAnAddress(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn host_bits_of_a_range_are_cleared() {
        assert_eq!(cidr("10.1.2.3/8"), Ok("10.0.0.0/8".parse().unwrap()));
        assert_eq!(cidr(" fd00::5/64 "), Ok("fd00::/64".parse().unwrap()));
        for text in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "/8", "10.0.0.0/-1"] {
            assert_eq!(cidr(text), Err(Fault::NotACidr(text.to_owned())), "{text}");
        }
    }
}
