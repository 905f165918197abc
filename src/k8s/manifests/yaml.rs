// SPDX-License-Identifier: Apache-2.0
//! One YAML or JSON document to a value, and where in it something is wrong.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned};

/// What is wrong in a document.
#[derive(Debug)]
pub(super) struct Error {
    /// From 1, within the document's text. 0 if it cannot be told.
    pub line: usize,
    /// `spec.ports[0].port`; empty if the document is no YAML at all.
    pub field: String,
    pub message: String,
}

pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    if is_json(text)
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    // The path is not tracked on the way that must be fast, only where there is an error to name.
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line() as usize);
        let mut field = String::new();
        // Its own verdict would be about the rest of the document, which was not read.
        let _ = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
            if let Err(error) = serde_path_to_error::deserialize::<_, T>(yaml) {
                field = error.path().to_string();
            }
            Ok(())
        });
        let field = if field == "." { String::new() } else { field };
        Error { line, field, message: brief(&error) }
    })
}

/// The line of `field` in a document that parses, or of the nearest field around it.
pub(super) fn line_of(text: &str, field: &str) -> usize {
    let mut path = field;
    loop {
        let segments: Vec<_> = path.split(['.', '[', ']']).filter(|s| !s.is_empty()).collect();
        let found = serde_saphyr::with_deserializer_from_str_with_options(
            text,
            options(),
            |deserializer| Line(&segments).deserialize(deserializer),
        );
        match (found, path.rfind(['.', '['])) {
            (Ok(Some(line)), _) => return line,
            (_, Some(end)) => path = &path[..end],
            (_, None) => return 1,
        }
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn options() -> Options {
    // The files are the operator's own: their size is no reason to refuse them. Aliases stay
    // limited, because a few lines of those can grow without bound.
    serde_saphyr::options! { budget: None, emit_comments: false, with_snippet: false }
}

/// The parser's words on one line, without the picture of the source that comes with them.
fn brief(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let end = first.find(" at line ").unwrap_or(first.len());
    match first[..end].trim_start_matches("error: ") {
        "invalid i64" => "not a whole number".to_owned(),
        other => other.to_owned(),
    }
}

/// Walks down the path and tells the line of what it finds there.
struct Line<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if !self.0.is_empty() {
            return deserializer.deserialize_any(self);
        }
        let here: Spanned<IgnoredAny> = serde::Deserialize::deserialize(deserializer)?;
        Ok(Some(here.referenced.line() as usize))
    }
}

impl<'de> Visitor<'de> for Line<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (wanted, rest) = self.0.split_first().ok_or_else(|| A::Error::custom("no path"))?;
        let mut line = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                line = map.next_value_seed(Line(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(line)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (wanted, rest) = self.0.split_first().ok_or_else(|| A::Error::custom("no path"))?;
        let mut line = None;
        for index in 0_usize.. {
            if index.to_string() == *wanted {
                let Some(found) = seq.next_element_seed(Line(rest))? else { break };
                line = found;
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(line)
    }
}
