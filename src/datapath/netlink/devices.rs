// SPDX-License-Identifier: Apache-2.0
//! Names of devices as the configuration gives them.

use std::convert::Infallible;
use std::str::FromStr;

/// `eth0` is that device, `eth+` every device whose name begins with `eth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePattern(String);

impl DevicePattern {
    pub fn matches(&self, device: &str) -> bool {
        match self.0.strip_suffix('+') {
            Some(prefix) => device.starts_with(prefix),
            None => device == self.0,
        }
    }
}

impl FromStr for DevicePattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_stands_for_any_ending() {
        let matches =
            |pattern: &str, device| pattern.parse::<DevicePattern>().unwrap().matches(device);
        assert!(matches("eth+", "eth0") && matches("eth+", "eth"));
        assert!(!matches("eth+", "veth0"));
        assert!(matches("eth0", "eth0") && !matches("eth0", "eth01"));
    }
}
