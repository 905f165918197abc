// SPDX-License-Identifier: Apache-2.0
//! How each kind of value is written, in flags, environment and file alike.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

mod level;
mod ports;
mod seed;
mod words;

pub use level::LogLevel;
pub use ports::{NodePortAddresses, PortRange};
pub use seed::Seed;
pub use words::{
    Acceleration, Algorithm, DsrDispatch, KubeProxyReplacement, LbMode, LogFormat, RoutingMode,
};

/// A value that has one spelling everywhere.
pub trait Value: Sized {
    /// What to write, for help and error messages.
    const KIND: &'static str;

    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

impl Value for bool {
    const KIND: &'static str = "true|false";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// `90s`, `5m`, `2h`, or a plain number of seconds.
impl Value for Duration {
    const KIND: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no duration; write it as `90s`, `5m` or `2h`");
        let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => text.split_at(at),
            None => (text, "s"),
        };
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let seconds: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = seconds.checked_mul(factor).filter(|s| *s > 0).ok_or_else(wrong)?;
        Ok(Self::from_secs(seconds))
    }

    fn show(&self) -> String {
        format!("{}s", self.as_secs())
    }
}

impl Value for String {
    const KIND: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("the path is empty".to_owned()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// Implements [`Value`] by `FromStr` and `Display`.
macro_rules! standard {
    ($($type:ty, $kind:literal, $what:literal;)+) => {$(
        impl Value for $type {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("`{text}` is no {}", $what))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

standard! {
    u16, "PORT", "port number";
    u32, "NUMBER", "number";
    Ipv4Addr, "IPV4", "IPv4 address";
    Ipv6Addr, "IPV6", "IPv6 address";
    IpNet, "CIDR", "CIDR; write it as `10.0.0.0/8`";
    Ipv4Net, "IPV4-CIDR", "IPv4 CIDR; write it as `10.0.0.0/8`";
    Ipv6Net, "IPV6-CIDR", "IPv6 CIDR; write it as `fd00::/48`";
    SocketAddr, "ADDRESS:PORT", "address with port; write it as `0.0.0.0:1025`";
}

/// Empty text means not set.
impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// Separated by commas or blanks.
impl<T: Value> Value for Vec<T> {
    const KIND: &'static str = "LIST";

    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(|c: char| c == ',' || c.is_whitespace());
        parts.filter(|part| !part.is_empty()).map(T::parse).collect()
    }

    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        assert_eq!(Duration::parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(Duration::parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(Duration::parse("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(Duration::parse("15"), Ok(Duration::from_secs(15)));
        for wrong in ["", "s", "0s", "5d", "-1s", "99999999999999999999h"] {
            assert!(Duration::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_take_commas_and_blanks() {
        let devices: Vec<String> = Value::parse("eth0, eth1  bond+").unwrap();
        assert_eq!(devices, ["eth0", "eth1", "bond+"]);
        assert_eq!(
            Vec::<IpNet>::parse("10.0.0.0/8,x").unwrap_err(),
            IpNet::parse("x").unwrap_err()
        );
    }
}
