// SPDX-License-Identifier: Apache-2.0
//! How each kind of value is written, in flags, environment and file alike.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A value that has one spelling everywhere.
pub trait Value: Sized {
    /// What to write, for help and error messages.
    const KIND: &'static str;

    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

/// Defines an enum of words; the first spelling of each is how it prints.
macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $kind:literal {
        $($(#[$note:meta])* $variant:ident = $word:literal $(| $old:literal)*,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$note])* $variant,)+ }

        impl $type {
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Value for $type {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word $(| $old)* => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of {}", Self::KIND.replace('|', ", "))),
                }
            }

            fn show(&self) -> String {
                self.name().to_owned()
            }
        }
    };
}

words! {
    /// How much of kube-proxy's work is done.
    KubeProxyReplacement, "true|partial|false" {
        /// All of it; the agent ends with an error where the kernel cannot.
        True = "true" | "strict",
        /// What is enabled and what the kernel can.
        Partial = "partial" | "probe",
        /// ClusterIP for pods only; kube-proxy keeps the rest.
        False = "false" | "disabled",
    }
}

words! {
    /// How a request reaches a backend on another node.
    LbMode, "snat|dsr|hybrid" { Snat = "snat", Dsr = "dsr", Hybrid = "hybrid", }
}

words! {
    Algorithm, "random|maglev" { Random = "random", Maglev = "maglev", }
}

/// Twelve bytes, in base64 (RFC 4648 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub [u8; 12]);

impl Seed {
    /// `JLfvgnHc2kaSUFaI`.
    pub const DEFAULT: Self =
        Self([0x24, 0xb7, 0xef, 0x82, 0x71, 0xdc, 0xda, 0x46, 0x92, 0x50, 0x56, 0x88]);
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Value for Seed {
    const KIND: &'static str = "BASE64";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not twelve bytes in base64; try `head -c12 /dev/urandom | base64`")
        };
        let digits: Option<Vec<u32>> = text
            .bytes()
            .map(|byte| BASE64.iter().position(|each| *each == byte).map(|digit| digit as u32))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 16).ok_or_else(wrong)?;
        let mut bytes = [0; 12];
        for (three, four) in bytes.chunks_mut(3).zip(digits.chunks(4)) {
            let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit);
            three.copy_from_slice(&bits.to_be_bytes()[1..]);
        }
        Ok(Self(bytes))
    }

    fn show(&self) -> String {
        let digits = self.0.chunks(3).flat_map(|three| {
            let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| char::from(BASE64[bits >> shift & 63]))
        });
        digits.collect()
    }
}

words! {
    /// Whether the driver hook serves.
    Acceleration, "disabled|native|best-effort|testing-only-generic" {
        Disabled = "disabled",
        /// On every external device; the agent is not ready without.
        Native = "native",
        /// Where the driver can; tc serves the other devices.
        BestEffort = "best-effort",
        /// In the kernel's own hook, which no driver must support.
        TestingOnlyGeneric = "testing-only-generic",
    }
}

words! {
    /// How a direct server return request names its service.
    DsrDispatch, "opt|ipip|geneve" { Opt = "opt", Ipip = "ipip", Geneve = "geneve", }
}

words! {
    RoutingMode, "native|tunnel" { Native = "native", Tunnel = "tunnel", }
}

words! {
    LogFormat, "text|json" { Text = "text", Json = "json", }
}

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
    fn a_port_range_is_read_in_both_spellings_and_never_backwards() {
        let range = PortRange { min: 30000, max: 60000 };
        assert_eq!(PortRange::parse("30000,60000"), Ok(range));
        assert_eq!(PortRange::parse("30000-60000"), Ok(range));
        assert_eq!(PortRange::parse(&range.show()), Ok(range));
        for wrong in ["30000", "60000,30000", "0,10", "1,70000", "a,b"] {
            assert!(PortRange::parse(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }

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

    #[test]
    fn a_seed_is_twelve_bytes_in_base64() {
        let seed = Seed::parse("JLfvgnHc2kaSUFaI").unwrap();
        assert_eq!((seed, seed.show().as_str()), (Seed::DEFAULT, "JLfvgnHc2kaSUFaI"));
        assert_eq!(Seed::parse("AAAAAAAAAAAAAAA/").unwrap().0[11], 63);
        for wrong in
            ["", "JLfvgnHc2kaSUFa", "JLfvgnHc2kaSUFaIJLfv", "JLfvgnHc2kaSUF==", "JLfv nHc2kaSUFaI"]
        {
            assert!(Seed::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn old_words_mean_the_new_ones() {
        for (old, new) in [("strict", "true"), ("probe", "partial"), ("disabled", "false")] {
            assert_eq!(KubeProxyReplacement::parse(old).unwrap().name(), new);
        }
        assert!(KubeProxyReplacement::parse("yes").unwrap_err().contains("true, partial, false"));
    }
}
