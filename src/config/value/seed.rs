// SPDX-License-Identifier: Apache-2.0
//! What seeds Maglev's hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Value;

/// Twelve bytes, in base64 (RFC 4648 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub [u8; 12]);

impl Seed {
    /// `JLfvgnHc2kaSUFaI`.
    pub const DEFAULT: Self =
        Self([0x24, 0xb7, 0xef, 0x82, 0x71, 0xdc, 0xda, 0x46, 0x92, 0x50, 0x56, 0x88]);
}

impl Value for Seed {
    const KIND: &'static str = "BASE64";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not twelve bytes in base64; try `head -c12 /dev/urandom | base64`")
        };
        let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }

    fn show(&self) -> String {
        STANDARD.encode(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
