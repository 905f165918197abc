// SPDX-License-Identifier: Apache-2.0
//! What is logged.

use super::Value;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `tracing` directives, such as `info` or `info,culvert::lb=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(pub String);

impl Value for LogLevel {
    const KIND: &'static str = "LEVEL";

    /// Stricter than `tracing`, to which a word that is no level is a module: of a misspelt `info`
    /// nothing but silence would come.
    fn parse(text: &str) -> Result<Self, String> {
        for directive in text.split(',') {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if !LEVELS.contains(&level.trim().to_lowercase().as_str()) {
                let levels = LEVELS.join(", ");
                return Err(format!("`{directive}` is none of {levels}, nor `MODULE=LEVEL`"));
            }
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for right in ["info", "WARN", "off", "info,culvert::lb=debug", "culvert=trace, warn"] {
            assert_eq!(LogLevel::parse(right), Ok(LogLevel(right.to_owned())));
        }
        for wrong in ["loud", "", "info,", "inof", "culvert::lb=very", "warn,culvert::lb"] {
            let error = LogLevel::parse(wrong).unwrap_err();
            assert!(error.contains("none of off, error, warn"), "{wrong}: {error}");
        }
    }
}
