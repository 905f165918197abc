// SPDX-License-Identifier: Apache-2.0
//! What the running kernel can do, found out by trying, never by its version number.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

mod btf;
mod checks;
mod link;
mod table;

pub use checks::has_tcx;

/// One thing that a kernel has or has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// Stable: configuration rules and `status` name features by it.
    pub name: &'static str,
    pub present: bool,
    /// What was tried, or what the kernel answered.
    pub detail: String,
    /// The parts of Culvert that use it.
    pub needed_by: &'static str,
    /// What is done without it.
    pub instead: &'static str,
}

/// Everything that was asked, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// `uname -r`.
    pub kernel: String,
    pub features: Vec<Feature>,
}

impl Probe {
    /// Whether the feature is there. A name nobody probes is not.
    pub fn has(&self, name: &str) -> bool {
        self.features.iter().any(|each| each.name == name && each.present)
    }

    /// Those of `required` that are absent.
    pub fn missing(&self, required: &[&str]) -> Vec<&Feature> {
        self.features.iter().filter(|each| !each.present && required.contains(&each.name)).collect()
    }

    /// Programs that this kernel would refuse, for [`super::Options::programs_off`].
    pub fn programs_off(&self) -> BTreeSet<String> {
        table::PROGRAMS
            .iter()
            .filter(|(feature, _)| !self.has(feature))
            .flat_map(|(_, programs)| programs.iter())
            .map(|&program| program.to_owned())
            .collect()
    }
}

/// Asks the kernel everything, by loading and creating small things that are gone when it returns.
/// `bpf_root` is where the pins go.
pub fn run(bpf_root: &Path) -> Probe {
    super::log::route();
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_else(|error| format!("unknown ({error})"));
    Probe { kernel, features: table::features(bpf_root) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(present: &[&'static str], absent: &[&'static str]) -> Probe {
        let feature = |name, present| Feature {
            name,
            present,
            detail: String::new(),
            needed_by: "",
            instead: "",
        };
        let features = present
            .iter()
            .map(|name| feature(name, true))
            .chain(absent.iter().map(|name| feature(name, false)))
            .collect();
        Probe { kernel: "test".to_owned(), features }
    }

    #[test]
    fn what_is_required_and_absent_is_missing() {
        let probe = probe(&["btf"], &["tcx", "coarse clock"]);
        let missing = probe.missing(&["btf", "tcx"]);
        assert_eq!(missing.iter().map(|each| each.name).collect::<Vec<_>>(), ["tcx"]);
    }

    #[test]
    fn every_program_is_switched_by_a_feature_that_is_probed() {
        let names: Vec<&str> = table::names().collect();
        for (feature, _) in table::PROGRAMS {
            assert!(names.contains(feature), "{feature}");
        }
    }
}
