// SPDX-License-Identifier: Apache-2.0
//! What the sync has to say of services that are not as the sources ask.

use std::collections::BTreeMap;

use super::{ServiceSync, Work};
use crate::lb::Owner;
use crate::model::Problem;

/// Of the services that wait for one thing, those that a line names.
const NAMED: usize = 10;

fn named(waiting: &[&Owner]) -> String {
    let names: Vec<String> = waiting.iter().take(NAMED).map(ToString::to_string).collect();
    match waiting.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

impl ServiceSync {
    /// What is not as the sources ask, and why.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.balancer.problems();
        problems.extend(self.refused());
        problems
    }

    /// Writes that are tried again.
    pub fn refused(&self) -> Vec<Problem> {
        // A full map keeps many services waiting: one line, with the first of them by name.
        let mut waiting: BTreeMap<&str, Vec<&Owner>> = BTreeMap::new();
        for (work, reason) in self.retries.reasons() {
            if let Work::Service(name) = work {
                waiting.entry(reason).or_default().push(name);
            }
        }
        let mut problems: Vec<Problem> = Vec::new();
        problems.extend(waiting.into_iter().map(|(reason, mut names)| {
            names.sort_unstable();
            let message = match names.len() {
                1 => reason.to_owned(),
                count => format!("{reason}; {count} wait: {}", named(&names)),
            };
            Problem { subject: names[0].to_string(), message }
        }));
        let others = self.retries.reasons().filter_map(|(work, reason)| {
            let subject = match work {
                Work::Service(_) => return None,
                Work::Prune => "services of an earlier agent",
                Work::Removals => "replaced backends",
            };
            Some(Problem { subject: subject.to_owned(), message: reason.to_owned() })
        });
        problems.extend(others);
        problems
    }
}
