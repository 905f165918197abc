// SPDX-License-Identifier: Apache-2.0
//! What failed and is tried again: when, how often so far, and why. The only place that backs off.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Of the first repetition; it doubles up to [`LAST`].
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);

/// Work by `K` that waits for its repetition.
#[derive(Debug)]
pub struct Retries<K> {
    waiting: BTreeMap<K, Attempt>,
}

#[derive(Debug)]
struct Attempt {
    delay: Duration,
    /// None while it is being tried.
    at: Option<Instant>,
    reason: String,
}

impl<K: Ord + Clone> Default for Retries<K> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Retries<K> {
    /// `work` failed at `now`.
    pub fn failed(&mut self, work: K, reason: String, now: Instant) {
        let delay = match self.waiting.get(&work) {
            Some(attempt) => (attempt.delay * 2).min(LAST),
            None => FIRST,
        };
        self.waiting.insert(work, Attempt { delay, at: Some(now + delay), reason });
    }

    /// `work` is to be done at once; what was known of its failures stays known.
    pub fn now(&mut self, work: K) {
        let at = Some(Instant::now());
        let fresh = || Attempt { delay: FIRST / 2, at, reason: String::new() };
        self.waiting.entry(work).or_insert_with(fresh).at = at;
    }

    /// `work` succeeded, or is no longer wanted.
    pub fn done(&mut self, work: &K) {
        self.waiting.remove(work);
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|attempt| attempt.at).min()
    }

    /// Everything that is due. Each stays a failure until `done` or `failed` is told.
    pub fn due(&mut self, now: Instant) -> Vec<K> {
        let mut due = Vec::new();
        for (work, attempt) in &mut self.waiting {
            if attempt.at.is_some_and(|at| at <= now) {
                attempt.at = None;
                due.push(work.clone());
            }
        }
        due
    }

    /// What fails, and why.
    pub fn reasons(&self) -> impl Iterator<Item = (&K, &str)> {
        let failed = self.waiting.iter().filter(|(_, attempt)| !attempt.reason.is_empty());
        failed.map(|(work, attempt)| (work, attempt.reason.as_str()))
    }

    /// Everything that is to be done again.
    pub fn all(&self) -> impl Iterator<Item = &K> {
        self.waiting.keys()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_limit() {
        let mut retries = Retries::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            retries.failed("x", "broken".into(), now);
            let next = retries.next().unwrap();
            waits.push((next - now).as_millis());
            now = next;
            assert_eq!(retries.due(now), ["x"]);
            assert_eq!(retries.due(now), [""; 0], "it is being tried");
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 30_000);
        assert_eq!(retries.reasons().collect::<Vec<_>>(), [(&"x", "broken")]);
        retries.done(&"x");
        assert!(retries.is_empty());
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut retries = Retries::default();
        let now = Instant::now();
        retries.failed("x", String::new(), now);
        assert_eq!(retries.due(now + Duration::from_millis(99)), [""; 0]);
    }
}
