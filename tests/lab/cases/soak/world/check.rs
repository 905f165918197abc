// SPDX-License-Identifier: Apache-2.0
//! Asks what the model has an answer to.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{IMPATIENCE, World};
use crate::cases::soak::expect::{Expected, Map, Visit, Who};
use crate::client::{Asker, Outcome, Question};

/// Visits of one check that are expected to be answered or refused, and that are not.
const ANSWERED: usize = 150;
const UNANSWERED: usize = 20;
/// An answer that comes at all comes within this.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// Asks a sample of everything from everywhere.
    pub(super) fn check(&mut self) {
        let map = Map { node_of: &self.node_of, name_of: &self.names };
        let expected = |visit: &Visit| visit.expected(&self.known[visit.served_by() - 1], &map);
        let all = self.visits.iter().map(|visit| (*visit, expected(visit)));
        let (unanswered, answered): (Vec<_>, Vec<_>) =
            all.partition(|(_, expected)| *expected == Expected::Nothing);
        let mut chosen = self.random.sample(answered, ANSWERED);
        // One list is to be met whole.
        let is_whole = |(visit, expected): &&(Visit, Expected)| {
            visit.protocol == "tcp" && matches!(expected, Expected::From(_))
        };
        let whole = chosen.iter().find(is_whole).cloned();
        chosen.extend(self.random.sample(unanswered, UNANSWERED));
        self.asked += chosen.len();

        let failures = &mut self.failures;
        std::thread::scope(|scope| {
            let chosen = &chosen;
            let asking: Vec<_> = self
                .askers
                .iter_mut()
                .map(|(who, asker)| scope.spawn(move || ask(asker, *who, chosen)))
                .collect();
            failures.extend(asking.into_iter().flat_map(|asking| asking.join().unwrap()));
        });

        if let Some((visit, Expected::From(names))) = whole {
            let (_, asker) = self.askers.iter_mut().find(|(who, _)| *who == visit.who).unwrap();
            let outcomes = asker.ask(&vec![question(&visit, PATIENCE); 20 * names.len()]);
            let met: BTreeSet<String> = outcomes
                .into_iter()
                .map(|outcome| match outcome {
                    Outcome::Answer { name, .. } => name,
                    Outcome::Error { error } => error,
                })
                .collect();
            if met != names {
                let what = format!("{visit:?} met {met:?}, not {names:?}");
                self.failures.push(Failure { service: visit.service, what });
            }
        }
    }
}

pub struct Failure {
    pub(super) service: usize,
    pub(super) what: String,
}

/// Asks what is this client's to ask; returns what is wrong.
fn ask(asker: &mut Asker, who: Who, chosen: &[(Visit, Expected)]) -> Vec<Failure> {
    let mine: Vec<_> = chosen.iter().filter(|(visit, _)| visit.who == who).collect();
    let questions: Vec<Question> = mine
        .iter()
        .map(|(visit, expected)| {
            let nothing = *expected == Expected::Nothing;
            question(visit, if nothing { IMPATIENCE } else { PATIENCE })
        })
        .collect();
    let outcomes = asker.ask(&questions);
    let wrong = mine.into_iter().zip(outcomes).filter(|((_, e), outcome)| !e.is_met_by(outcome));
    wrong
        .map(|((visit, expected), outcome)| {
            let again = asker.ask(&[question(visit, PATIENCE)]).remove(0);
            let what = format!("{visit:?}: {outcome:?}, not {expected:?}; again {again:?}");
            Failure { service: visit.service, what }
        })
        .collect()
}

fn question(visit: &Visit, timeout: Duration) -> Question {
    Question { protocol: visit.protocol, to: visit.to, timeout }
}
