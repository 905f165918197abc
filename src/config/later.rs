// SPDX-License-Identifier: Apache-2.0
//! Names that are not keys of this version: older spellings, and what later versions bring.

use super::keys::{self, KEYS};

/// What a name in the file that is no key means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Read as another key with this value, and warn.
    Old {
        key: &'static str,
        value: &'static str,
    },
    /// What is asked for is what this version does anyway.
    Nothing,
    /// A feature this version does not have.
    NotSupported,
    Unknown,
}

/// Keys of features that this version lacks, with the value that asks for nothing.
const LATER: &[(&str, &str)] = &[
    ("bpf.masquerade", "false"),
    ("enableIPv4Masquerade", "false"),
    ("enableIPv6Masquerade", "false"),
    ("ipMasqAgent.enabled", "false"),
    ("egressGateway.enabled", "false"),
    ("vtep.enabled", "false"),
    ("bandwidthManager.enabled", "false"),
    ("enableIPv6BIGTCP", "false"),
    ("enableIPv4BIGTCP", "false"),
    ("nat46x64Gateway.enabled", "false"),
    ("tunnelProtocol", ""),
];

/// What `name: value` means when `name` is no key.
pub(super) fn meaning(name: &str, value: &str) -> Meaning {
    if name == "tunnel" {
        return match value {
            "disabled" => Meaning::Old { key: "routingMode", value: "native" },
            "vxlan" | "geneve" => Meaning::Old { key: "routingMode", value: "tunnel" },
            _ => Meaning::Unknown,
        };
    }
    if name == "bpf.disableExternalIPMitigation" {
        return match value {
            "true" => Meaning::Old { key: "externalIPs.servedInside", value: "true" },
            "false" => Meaning::Nothing,
            _ => Meaning::Unknown,
        };
    }
    match LATER.iter().find(|(later, _)| *later == name) {
        Some((_, harmless)) if *harmless == value => Meaning::Nothing,
        Some(_) => Meaning::NotSupported,
        None => Meaning::Unknown,
    }
}

/// What someone who wrote `name` most likely meant.
pub(super) fn suggestion(name: &str) -> Option<String> {
    let prefix = format!("{name}.");
    let group: Vec<_> =
        KEYS.iter().filter(|key| key.name.starts_with(&prefix)).map(|key| key.name).collect();
    if !group.is_empty() {
        return Some(format!("`{name}` is a group of keys: {}", group.join(", ")));
    }
    let whole =
        KEYS.iter().find(|key| name.strip_prefix(key.name).is_some_and(|r| r.starts_with('.')));
    if let Some(key) = whole {
        return Some(format!("`{}` is one key; write {} after it", key.name, (key.kind)()));
    }
    // A flag or an environment name in the file is the same mistake in another alphabet.
    let lower = name.to_lowercase();
    let distance = |key: &keys::Key| {
        let full = strsim::damerau_levenshtein(&lower, &key.name.to_lowercase());
        full.min(strsim::damerau_levenshtein(&lower, key.flag))
    };
    let nearest = KEYS.iter().min_by_key(|key| distance(key))?;
    (distance(nearest) <= 2 + name.len() / 5).then(|| format!("did you mean `{}`?", nearest.name))
}

/// The warning for an older spelling of a value of a real key.
pub(super) fn deprecated_value(name: &str, value: &str) -> Option<&'static str> {
    match (name, value) {
        ("kubeProxyReplacement", "strict") => Some("true"),
        ("kubeProxyReplacement", "probe") => Some("partial"),
        ("kubeProxyReplacement", "disabled") => Some("false"),
        _ => None,
    }
}
