// SPDX-License-Identifier: Apache-2.0
//! Ranges of ports, and which addresses serve NodePorts.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Value;

/// Ports, both ends included. Written `30000,32767`; `30000-32767` is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub min: u16,
    pub max: u16,
}

impl PortRange {
    /// Not chosen yet.
    pub const EMPTY: Self = Self { min: 0, max: 0 };

    pub fn contains(self, port: u16) -> bool {
        (self.min..=self.max).contains(&port)
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

impl Value for PortRange {
    const KIND: &'static str = "MIN,MAX";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no port range; write it as `30000,32767`");
        let (min, max) = text.split_once([',', '-']).ok_or_else(wrong)?;
        let min: u16 = min.trim().parse().map_err(|_| wrong())?;
        let max: u16 = max.trim().parse().map_err(|_| wrong())?;
        if min == 0 || min > max {
            return Err(wrong());
        }
        Ok(Self { min, max })
    }

    fn show(&self) -> String {
        format!("{},{}", self.min, self.max)
    }
}

/// Which addresses of the node serve NodePorts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The first InternalIP of each family, as kube-proxy's nftables mode does without being told.
    Primary,
    /// Those inside; empty: all.
    Nets(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Whether an InternalIP of the node serves NodePorts.
    pub fn may_serve(&self, ip: IpAddr) -> bool {
        match self {
            Self::Primary => true,
            Self::Nets(nets) => nets.is_empty() || nets.iter().any(|net| net.contains(&ip)),
        }
    }
}

impl Value for NodePortAddresses {
    const KIND: &'static str = "primary|LIST";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "primary" => Ok(Self::Primary),
            // The API's word for all addresses of a family is its zero CIDR.
            nets => Vec::parse(nets).map(Self::Nets),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Primary => "primary".to_owned(),
            Self::Nets(nets) => nets.show(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_is_read_in_both_spellings_and_never_backwards() {
        let range = PortRange { min: 30000, max: 60000 };
        assert_eq!(PortRange::parse("30000,60000"), Ok(range));
        assert_eq!(PortRange::parse("30000-60000"), Ok(range));
        assert_eq!(PortRange::parse(&range.show()), Ok(range));
        for wrong in ["30000", "60000,30000", "0,10", "1,70000", "a,b"] {
            assert!(PortRange::parse(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
