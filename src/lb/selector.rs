// SPDX-License-Identifier: Apache-2.0
//! Label selectors in the notation of `kubectl -l`: `a=b`, `a==b`, `a!=b`, `a in (b,c)`,
//! `a notin (b,c)`, `a`, `!a`, all of them to hold.

use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

#[derive(Debug, PartialEq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Debug, PartialEq)]
struct Requirement {
    /// Any of these labels.
    keys: Vec<String>,
    test: Test,
}

#[derive(Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// A label that is absent has none of the values.
    NotIn(Vec<String>),
}

impl Selector {
    /// One of `keys` has `value`.
    pub(super) fn one_of(keys: Vec<String>, value: &str) -> Self {
        Self(vec![Requirement { keys, test: Test::In(vec![value.to_owned()]) }])
    }

    /// None when `text` is no selector. An empty one selects everything.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            // A comma inside parentheses separates values.
            let mut depth = 0;
            let end = rest.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                c == ',' && depth == 0
            });
            let (one, others) = match end {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            requirements.push(Requirement::parse(one.trim())?);
            rest = others.map_or("", str::trim);
            if others.is_some() && rest.is_empty() {
                return None;
            }
        }
        Some(Self(requirements))
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        let of = |key: &str, test| {
            let key = key.trim();
            is_key(key).then(|| Self { keys: vec![key.to_owned()], test })
        };
        let one = |value: &str| {
            let value = value.trim();
            is_value(value).then(|| vec![value.to_owned()])
        };
        if let Some(key) = text.strip_prefix('!') {
            return of(key, Test::Absent);
        }
        if let Some((key, value)) = text.split_once("!=") {
            return of(key, Test::NotIn(one(value)?));
        }
        if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return of(key, Test::In(one(value)?));
        }
        if let Some((left, list)) = text.split_once('(') {
            let list = list.trim_end().strip_suffix(')')?;
            let values: Option<Vec<String>> =
                list.split(',').map(|v| one(v).map(|mut all| all.remove(0))).collect();
            let (key, word) = left.trim().split_once(char::is_whitespace)?;
            return match word.trim() {
                "in" => of(key, Test::In(values?)),
                "notin" => of(key, Test::NotIn(values?)),
                _ => None,
            };
        }
        of(text, Test::Exists)
    }

    fn holds(&self, labels: &Labels) -> bool {
        let mut values = self.keys.iter().filter_map(|key| labels.get(key));
        match &self.test {
            Test::Exists => values.next().is_some(),
            Test::Absent => values.next().is_none(),
            Test::In(wanted) => values.any(|value| wanted.contains(value)),
            Test::NotIn(unwanted) => !values.any(|value| unwanted.contains(value)),
        }
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

/// May be empty, as a label's value may.
fn is_value(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_selects_as_kubectl_does() {
        let labels: Labels = [("zone", "a"), ("edge", ""), ("example.com/role", "lb")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, expected) in [
            ("", true),
            ("zone=a", true),
            ("zone==a", true),
            ("zone = b", false),
            ("zone!=b", true),
            ("zone!=a", false),
            ("rack!=a", true),
            ("zone in (b, a)", true),
            ("zone in (b)", false),
            ("zone notin (b,c)", true),
            ("zone notin (a,c)", false),
            ("rack notin (a)", true),
            ("edge", true),
            ("edge=", true),
            ("rack", false),
            ("!rack", true),
            ("!edge", false),
            ("zone in (a,b),example.com/role=lb,!rack", true),
            ("zone in (a,b),example.com/role=lb,rack", false),
        ] {
            assert_eq!(Selector::parse(text).map(|s| s.matches(&labels)), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["=a", "a b", "a in b", "a in (b", "a is (b)", "a=b c", "a,", "!", "a=b,,c"] {
            assert_eq!(Selector::parse(text), None, "{text}");
        }
    }
}
