// SPDX-License-Identifier: Apache-2.0
//! Names in the environment that look like ours and are no key's.

use std::collections::BTreeMap;

use super::keys::KEYS;
use super::resolve::Error;

const PREFIX: &str = "CULVERT_";

/// Ours, and of no key.
const OTHERS: &[&str] = &["CULVERT_CONFIG"];

/// A sentence about each name that begins like ours and has no effect.
///
/// # Errors
/// A name is nearly a key's: somebody believes to have set that.
pub(super) fn check(env: &BTreeMap<String, String>) -> Result<Vec<String>, Error> {
    let known: Vec<String> = KEYS.iter().map(super::keys::Key::env).collect();
    let known = || known.iter().map(String::as_str).chain(OTHERS.iter().copied());
    let mut warnings = Vec::new();
    for name in env.keys().filter(|name| name.starts_with(PREFIX)) {
        if known().any(|own| own == name) || is_of_a_service(name, env) {
            continue;
        }
        let distance =
            |own: &str| strsim::damerau_levenshtein(&own[PREFIX.len()..], &name[PREFIX.len()..]);
        let nearest = known().min_by_key(|own| distance(own)).unwrap_or_default();
        // A third of a short name may make another word of it.
        if distance(nearest) <= 1 + nearest[PREFIX.len()..].len() / 8 {
            return Err(Error::UnknownVariable { name: name.clone(), meant: nearest.to_owned() });
        }
        warnings.push(format!("environment `{name}` is no key's and has no effect"));
    }
    Ok(warnings)
}

/// Kubernetes tells every pod of the Services of its namespace: for one called `culvert` or
/// `culvert-…` by such names, and always by the first two of them.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_of_a_service(name: &str, env: &BTreeMap<String, String>) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|part| {
        name.match_indices(part).any(|(at, _)| {
            let (service, rest) = (&name[..at], &name[at + part.len()..]);
            (rest.is_empty() || rest.starts_with('_'))
                && ["HOST", "PORT"]
                    .iter()
                    .all(|each| env.contains_key(&format!("{service}_SERVICE_{each}")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(names: &[&str]) -> Result<Vec<String>, Error> {
        check(&names.iter().map(|name| ((*name).to_owned(), String::new())).collect())
    }

    #[test]
    fn a_name_that_is_nearly_a_keys_is_refused_with_that_key() {
        for (name, meant) in [
            ("CULVERT_NODE_PORT_RNAGE", "CULVERT_NODE_PORT_RANGE"),
            ("CULVERT_LOADBALANCER_MODE", "CULVERT_LOAD_BALANCER_MODE"),
            ("CULVERT_DEVICE", "CULVERT_DEVICES"),
            ("CULVERT_CONFIGS", "CULVERT_CONFIG"),
            // Not of a service: of that there would be more.
            ("CULVERT_K8_SERVICE_HOST", "CULVERT_K8S_SERVICE_HOST"),
        ] {
            let error = checked(&[name]).unwrap_err().to_string();
            let expected = format!("environment `{name}` is no key's; did you mean `{meant}`?");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn other_names_are_said_and_known_ones_are_not() {
        let fine = ["CULVERT_CONFIG", "CULVERT_NODE_PORT_RANGE", "CULVERTS", "PATH"];
        assert_eq!(checked(&fine), Ok(Vec::new()));
        let warnings = checked(&["CULVERT_OTHER", "CULVERT_RESTARTS"]).unwrap();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("`CULVERT_OTHER`"), "{warnings:?}");
    }

    #[test]
    fn what_kubernetes_tells_of_services_passes() {
        let of = |service: &str| {
            let parts = [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_METRICS",
                "PORT",
                "PORT_1025_TCP",
                "PORT_1025_TCP_PROTO",
                "PORT_1025_TCP_PORT",
                "PORT_1025_TCP_ADDR",
            ];
            parts.map(|part| (format!("{service}_{part}"), String::new()))
        };
        for service in ["CULVERT", "CULVERT_K8", "CULVERT_NODE_PORT", "CULVERT_PORT"] {
            assert_eq!(check(&of(service).into()), Ok(Vec::new()), "{service}");
        }
    }
}
