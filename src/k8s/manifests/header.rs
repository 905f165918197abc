// SPDX-License-Identifier: Apache-2.0
//! What kind of object a document holds, told before the document is parsed.

use serde::Deserialize;

use super::yaml;
use crate::model::Kind;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub api_version: Option<String>,
    pub kind: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    One(Kind),
    /// `kind: List`, or a list of one kind as the API server writes it.
    List(Option<Kind>),
    /// A kind that Culvert does not read.
    Foreign,
    Wrong(String),
}

impl Header {
    pub fn of(text: &str) -> Result<Self, yaml::Error> {
        match Self::sniff(text) {
            Some(header) => Ok(header),
            None => yaml::parse(text),
        }
    }

    /// The header of a document in block style. There, only the keys of the outermost map can
    /// begin a line: all they hold is indented (or a list, which begins with `-`).
    fn sniff(text: &str) -> Option<Self> {
        let first = text.lines().find(|line| super::document::is_content(line))?;
        if !first.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let mut header = Self::default();
        for line in text.lines() {
            if let Some(value) = line.strip_prefix("apiVersion:") {
                header.api_version = Some(plain(value)?.to_owned());
            } else if let Some(value) = line.strip_prefix("kind:") {
                header.kind = Some(plain(value)?.to_owned());
            }
            if header.api_version.is_some() && header.kind.is_some() {
                return Some(header);
            }
        }
        None
    }

    pub fn meaning(&self) -> Meaning {
        let (Some(api_version), Some(kind)) = (self.api_version.as_deref(), self.kind.as_deref())
        else {
            let missing = if self.kind.is_none() { "kind" } else { "apiVersion" };
            return Meaning::Wrong(format!("`{missing}` is missing"));
        };
        let (item, wrap): (&str, fn(Kind) -> Meaning) = match kind.strip_suffix("List") {
            Some("") if api_version == "v1" => return Meaning::List(None),
            Some(item) => (item, |kind| Meaning::List(Some(kind))),
            None => (kind, Meaning::One),
        };
        let Some(known) = Kind::ALL.into_iter().find(|kind| kind.name() == item) else {
            return Meaning::Foreign;
        };
        let (group, wanted) = match known {
            Kind::EndpointSlice => ("discovery.k8s.io", "discovery.k8s.io/v1"),
            Kind::Service | Kind::Node | Kind::Pod => ("", "v1"),
        };
        if api_version == wanted {
            return wrap(known);
        }
        let its_group = api_version.split_once('/').map_or("", |(group, _)| group);
        if its_group == group {
            Meaning::Wrong(format!("`apiVersion` is `{api_version}`, not `{wanted}`"))
        } else {
            // Another project's kind of the same name, such as a Knative Service.
            Meaning::Foreign
        }
    }
}

/// A plain scalar; anything that takes a parser is left to the parser.
fn plain(value: &str) -> Option<&str> {
    let value = value.split(" #").next().unwrap_or_default().trim();
    let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-');
    (!value.is_empty() && value.chars().all(simple)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_found_in_any_style() {
        let table = [
            "apiVersion: v1\nkind: Service\n",
            "# a comment\nmetadata:\n  kind: Pod\nkind: Service # ours\napiVersion: v1\n",
            "apiVersion: 'v1'\nkind: \"Service\"\n",
            "{apiVersion: v1, kind: Service}",
            "{\"apiVersion\": \"v1\",\n\"kind\": \"Service\"}",
            "\"kind\": Service\n\"apiVersion\": v1\n",
        ];
        for text in table {
            assert_eq!(Header::of(text).unwrap().meaning(), Meaning::One(Kind::Service), "{text}");
        }
    }

    #[test]
    fn kinds_are_told_apart_by_group_and_version() {
        let meaning = |api_version: &str, kind: &str| {
            let header = Header { api_version: Some(api_version.into()), kind: Some(kind.into()) };
            header.meaning()
        };
        assert_eq!(
            meaning("discovery.k8s.io/v1", "EndpointSlice"),
            Meaning::One(Kind::EndpointSlice)
        );
        assert_eq!(meaning("v1", "List"), Meaning::List(None));
        assert_eq!(meaning("v1", "NodeList"), Meaning::List(Some(Kind::Node)));
        assert_eq!(meaning("serving.knative.dev/v1", "Service"), Meaning::Foreign);
        assert_eq!(meaning("apps/v1", "Deployment"), Meaning::Foreign);
        assert_eq!(meaning("v1", "ConfigMapList"), Meaning::Foreign);
        let wrong = "`apiVersion` is `discovery.k8s.io/v1beta1`, not `discovery.k8s.io/v1`";
        assert_eq!(
            meaning("discovery.k8s.io/v1beta1", "EndpointSlice"),
            Meaning::Wrong(wrong.into())
        );
        let nothing = Header { api_version: Some("v1".into()), kind: None };
        assert_eq!(nothing.meaning(), Meaning::Wrong("`kind` is missing".into()));
    }
}
