// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's meaning of healthy (KEP-3836): cloud load balancers probe it to choose nodes.
//!
//! Unhealthy is an update that waits longer than the timeout, or a node that leaves or is gone.
//! Starting up is healthy, and so is an API server that is away: what was written forwards.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

/// Shared by the control loop, which reports, and the servers, which answer.
#[derive(Debug)]
pub struct Health {
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// When the oldest update that is not written yet came.
    queued: Option<Instant>,
    updated: Option<SystemTime>,
    node_leaving: bool,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub healthy: bool,
    pub node_eligible: bool,
    pub last_updated: SystemTime,
    pub now: SystemTime,
}

/// Body of `/healthz` and, without `nodeEligible`, of `/livez`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
}

impl Health {
    pub fn new(timeout: Duration) -> Self {
        let state = State { queued: None, updated: None, node_leaving: false };
        Self { timeout, state: Mutex::new(state) }
    }

    /// A change came that must be written. Only the oldest that waits counts.
    pub fn queued(&self) {
        self.state().queued.get_or_insert_with(Instant::now);
    }

    /// Everything that was queued is written.
    pub fn updated(&self) {
        let mut state = self.state();
        state.queued = None;
        state.updated = Some(SystemTime::now());
    }

    /// This node is being deleted or is gone, or has the taint `ToBeDeletedByClusterAutoscaler`.
    pub fn node_leaving(&self, leaving: bool) {
        self.state().node_leaving = leaving;
    }

    pub fn verdict(&self) -> Verdict {
        let state = *self.state();
        judge(state, self.timeout, Instant::now(), SystemTime::now())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves three independent words: there is nothing half-written.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn judge(state: State, timeout: Duration, now: Instant, wall: SystemTime) -> Verdict {
    let waited = state.queued.map(|since| now.saturating_duration_since(since));
    // Before the first write nothing is late: the sources may still be listing.
    let healthy = state.updated.is_none() || waited.is_none_or(|waited| waited < timeout);
    Verdict {
        healthy,
        node_eligible: !state.node_leaving,
        // Recent while healthy, as callers of kube-proxy expect even when nothing has changed.
        last_updated: if healthy { wall } else { state.updated.unwrap_or(wall) },
        now: wall,
    }
}

impl Verdict {
    /// Whether `/healthz` answers 200.
    pub fn serves(&self) -> bool {
        self.healthy && self.node_eligible
    }

    pub fn healthz_body(&self) -> Vec<u8> {
        self.body(Some(self.node_eligible))
    }

    pub fn livez_body(&self) -> Vec<u8> {
        self.body(None)
    }

    fn body(&self, node_eligible: Option<bool>) -> Vec<u8> {
        let body = Body {
            last_updated: text(self.last_updated),
            current_time: text(self.now),
            node_eligible,
        };
        serde_json::to_vec(&body).expect("strings and a bool are always JSON")
    }
}

/// RFC 3339.
fn text(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn state(queued: Option<Instant>, updated: Option<SystemTime>, node_leaving: bool) -> Verdict {
        let now = Instant::now() + Duration::from_secs(1000);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(5000);
        judge(State { queued, updated, node_leaving }, TIMEOUT, now, wall)
    }

    #[test]
    fn only_an_overdue_update_or_a_leaving_node_is_unhealthy() {
        let now = Instant::now() + Duration::from_secs(1000);
        let before = |seconds| Some(now - Duration::from_secs(seconds));
        let wrote = Some(SystemTime::UNIX_EPOCH);
        for (queued, updated, leaving, serves, what) in [
            (None, None, false, true, "starting"),
            (before(500), None, false, true, "starting, sources still listing"),
            (None, wrote, false, true, "idle for long"),
            (before(59), wrote, false, true, "an update is on its way"),
            (before(61), wrote, false, false, "an update is stuck"),
            (None, wrote, true, false, "the node leaves"),
        ] {
            let verdict =
                judge(State { queued, updated, node_leaving: leaving }, TIMEOUT, now, UNIX_1000);
            assert_eq!(verdict.serves(), serves, "{what}");
        }
    }

    const UNIX_1000: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_leaving_node_is_alive() {
        let verdict = state(None, Some(SystemTime::UNIX_EPOCH), true);
        assert!(verdict.healthy && !verdict.node_eligible);
    }

    #[test]
    fn the_body_is_kube_proxys() {
        let verdict = state(None, None, false);
        assert_eq!(
            String::from_utf8(verdict.healthz_body()).unwrap(),
            r#"{"lastUpdated":"1970-01-01T01:23:20Z","currentTime":"1970-01-01T01:23:20Z","nodeEligible":true}"#
        );
        assert_eq!(
            String::from_utf8(verdict.livez_body()).unwrap(),
            r#"{"lastUpdated":"1970-01-01T01:23:20Z","currentTime":"1970-01-01T01:23:20Z"}"#
        );
    }

    #[test]
    fn while_unhealthy_last_updated_stands_still() {
        let now = Instant::now() + Duration::from_secs(1000);
        let wrote = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let stuck =
            State { queued: Some(now - TIMEOUT), updated: Some(wrote), node_leaving: false };
        assert_eq!(judge(stuck, TIMEOUT, now, wrote + TIMEOUT).last_updated, wrote);
    }

    #[test]
    fn the_oldest_waiting_update_counts_and_writing_clears_it() {
        let health = Health::new(Duration::ZERO);
        health.updated();
        assert!(health.verdict().serves());
        health.queued();
        health.queued();
        assert!(!health.verdict().serves());
        health.updated();
        assert!(health.verdict().serves());
    }
}
