// SPDX-License-Identifier: Apache-2.0
//! What the annotations of services and slices ask for. A value that cannot be read is said, and changes nothing.
//!
//! Each is read under our own prefix and, for people who migrate, under that of Cilium.

use std::collections::BTreeMap;

use super::forwarding::Mode;
use super::selector::Selector;
use crate::abi::ServiceKind;
use crate::model::{EndpointSlice, Service};

const PREFIXES: [&str; 2] = ["service.culvert.io/", "service.cilium.io/"];

/// How a backend is chosen for clients outside the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    #[default]
    Random,
    /// The same one for a client on every node.
    Maglev,
}

/// The annotations of one service, as read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Annotations {
    /// `type`: the kinds of frontends that are served. None: all that the service has.
    kinds: Option<Vec<ServiceKind>>,
    /// `node` and `node-selector`: nodes that serve clients outside.
    nodes: Vec<Selector>,
    /// `src-ranges-policy: deny`.
    pub(super) deny: bool,
    /// `proxy-delegation: delegate-if-local`.
    pub(super) delegate: bool,
    /// `lb-algorithm`; None: as configured.
    pub(super) algorithm: Option<Algorithm>,
    /// `forwarding-mode`; None: as configured.
    pub(super) forwarding: Option<Mode>,
}

impl Annotations {
    /// What can be read, and a sentence about each value that cannot.
    pub(super) fn of(service: &Service) -> (Self, Vec<String>) {
        let mut faults = Vec::new();
        let mut read = Self::default();
        if service.annotations.is_empty() {
            return (read, faults);
        }
        for (name, take) in TAKE {
            let Some((key, value)) = find(&service.annotations, name) else { continue };
            if let Err(expected) = take(&mut read, value.trim()) {
                faults.push(format!(
                    "annotation `{key}: {value}` is not understood and has no effect; write {expected}"
                ));
            }
        }
        (read, faults)
    }

    /// Whether a node with `labels` serves frontends of `kind`. Inside the cluster a service is
    /// reached everywhere.
    pub(super) fn serves(&self, kind: ServiceKind, labels: &BTreeMap<String, String>) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
            && (kind == ServiceKind::ClusterIp
                || self.nodes.iter().all(|selector| selector.matches(labels)))
    }

    /// Whether the node's labels decide anything.
    pub(super) fn is_selective(&self) -> bool {
        !self.nodes.is_empty()
    }
}

/// Weight of an endpoint whose slice names none, as with Cilium.
pub(super) const DEFAULT_WEIGHT: u16 = 100;

/// `weight` of a slice: what part of the clients each of its endpoints has against others, where a
/// Maglev table decides. 0: no new ones, unless no endpoint has a weight.
///
/// # Errors
/// The value cannot be read; the sentence about it.
pub(super) fn weight(slice: &EndpointSlice) -> Result<u16, String> {
    let Some((key, value)) = find(&slice.annotations, "weight") else {
        return Ok(DEFAULT_WEIGHT);
    };
    value.trim().parse().map_err(|_| {
        format!(
            "annotation `{key}: {value}` of EndpointSlice {} is not understood and has no effect; \
             write a number up to {}",
            slice.name,
            u16::MAX
        )
    })
}

/// The annotation `name`, under our prefix first.
fn find<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Option<(&'a str, &'a str)> {
    if annotations.is_empty() {
        return None;
    }
    PREFIXES.iter().find_map(|prefix| {
        let (key, value) = annotations.get_key_value(&format!("{prefix}{name}"))?;
        Some((key.as_str(), value.as_str()))
    })
}

type Take = fn(&mut Annotations, &str) -> Result<(), &'static str>;

const TAKE: [(&str, Take); 7] = [
    ("node", |read, value| {
        // The label has the annotation's own name, under either prefix.
        let keys = PREFIXES.map(|prefix| format!("{prefix}node"));
        read.nodes.push(Selector::one_of(keys.to_vec(), value));
        Ok(())
    }),
    ("node-selector", |read, value| {
        read.nodes.push(Selector::parse(value).ok_or("a label selector, as for `kubectl -l`")?);
        Ok(())
    }),
    ("type", |read, value| {
        let kinds = value.split(',').map(|word| match word.trim() {
            "ClusterIP" => Some(ServiceKind::ClusterIp),
            "NodePort" => Some(ServiceKind::NodePort),
            "LoadBalancer" => Some(ServiceKind::LoadBalancer),
            _ => None,
        });
        let kinds: Option<Vec<ServiceKind>> = kinds.collect();
        let mut kinds = kinds.ok_or("a list of `ClusterIP`, `NodePort`, `LoadBalancer`")?;
        // Whoever has a load balancer in front has no word of its own for externalIPs.
        if kinds.contains(&ServiceKind::LoadBalancer) {
            kinds.push(ServiceKind::ExternalIp);
        }
        read.kinds = Some(kinds);
        Ok(())
    }),
    ("src-ranges-policy", |read, value| {
        read.deny = word(value, &[("allow", false), ("deny", true)], "`allow` or `deny`")?;
        Ok(())
    }),
    ("proxy-delegation", |read, value| {
        let words = [("none", false), ("delegate-if-local", true)];
        read.delegate = word(value, &words, "`delegate-if-local` or `none`")?;
        Ok(())
    }),
    ("lb-algorithm", |read, value| {
        let words = [("random", Algorithm::Random), ("maglev", Algorithm::Maglev)];
        read.algorithm = Some(word(value, &words, "`random` or `maglev`")?);
        Ok(())
    }),
    ("forwarding-mode", |read, value| {
        let words = [("snat", Mode::Snat), ("dsr", Mode::Dsr)];
        read.forwarding = Some(word(value, &words, "`snat` or `dsr`")?);
        Ok(())
    }),
];

/// Those that are obeyed, by our prefix; Cilium's name does the same.
pub fn obeyed() -> impl Iterator<Item = String> {
    TAKE.iter().map(|(name, _)| format!("{}{name}", PREFIXES[0]))
}

fn word<T: Copy>(
    value: &str,
    words: &[(&str, T)],
    expected: &'static str,
) -> Result<T, &'static str> {
    words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning).ok_or(expected)
}
