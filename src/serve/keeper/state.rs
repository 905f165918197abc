// SPDX-License-Identifier: Apache-2.0
//! What an agent tells the keeper, and what the keeper answers from it. Both sides read what a
//! newer version of the other says: a keeper lives through upgrades.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// What an agent says, one line of JSON each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Also said again and again: it is the sign of life.
    State(State),
    /// Close everything and end.
    Stop,
}

/// Everything there is to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// No update has waited for too long.
    pub healthy: bool,
    /// Where to listen. Empty: on every address.
    pub addresses: Vec<IpAddr>,
    pub services: Vec<Checked>,
}

/// A service with a `healthCheckNodePort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Checked {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    /// Ready ones of this node.
    pub local_endpoints: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// Subject and message of what could not be done.
    pub problems: Vec<(String, String)>,
}

/// The last state and its age.
#[derive(Debug)]
pub(super) struct Answers {
    patience: Duration,
    last: Mutex<(State, Instant)>,
}

/// One answer, as kube-proxy gives it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// `X-Load-Balancing-Endpoint-Weight`.
    pub weight: usize,
    pub body: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl Answers {
    pub fn new(patience: Duration) -> Self {
        Self { patience, last: Mutex::new((State::default(), Instant::now())) }
    }

    pub fn set(&self, state: State) {
        *self.last() = (state, Instant::now());
    }

    /// No service has a port.
    pub fn idle(&self) -> bool {
        self.last().0.services.is_empty()
    }

    /// What a probe of `port` is told; None: it is nobody's.
    pub fn of(&self, port: u16) -> Option<Answer> {
        let last = self.last();
        let (state, heard) = &*last;
        let service = state.services.iter().find(|service| service.port == port)?;
        let healthy = state.healthy && heard.elapsed() < self.patience;
        let body = Body {
            service: Name { namespace: &service.namespace, name: &service.name },
            local_endpoints: service.local_endpoints,
            service_proxy_healthy: healthy,
        };
        let good = healthy && service.local_endpoints > 0;
        Some(Answer {
            status: if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE },
            weight: service.local_endpoints,
            body: serde_json::to_vec(&body).expect("strings and numbers are always JSON"),
        })
    }

    fn last(&self) -> MutexGuard<'_, (State, Instant)> {
        // A state is replaced as a whole: there is nothing half-written.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(healthy: bool, local_endpoints: usize) -> State {
        let service =
            Checked { namespace: "shop".into(), name: "web".into(), port: 32000, local_endpoints };
        State { healthy, addresses: Vec::new(), services: vec![service] }
    }

    #[test]
    fn a_node_is_good_with_an_endpoint_and_an_agent_that_keeps_up() {
        let answers = Answers::new(Duration::from_secs(60));
        for (healthy, endpoints, status) in [
            (true, 2, StatusCode::OK),
            (true, 0, StatusCode::SERVICE_UNAVAILABLE),
            (false, 2, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            answers.set(state(healthy, endpoints));
            let answer = answers.of(32000).unwrap();
            assert_eq!((answer.status, answer.weight), (status, endpoints));
        }
        assert_eq!(answers.of(32001), None);
    }

    #[test]
    fn the_body_is_kube_proxys() {
        let answers = Answers::new(Duration::from_secs(60));
        answers.set(state(true, 1));
        assert_eq!(
            String::from_utf8(answers.of(32000).unwrap().body).unwrap(),
            r#"{"service":{"namespace":"shop","name":"web"},"localEndpoints":1,"serviceProxyHealthy":true}"#
        );
    }

    #[test]
    fn what_nobody_has_said_again_for_long_is_no_longer_vouched_for() {
        let answers = Answers::new(Duration::ZERO);
        answers.set(state(true, 1));
        let answer = answers.of(32000).unwrap();
        assert_eq!((answer.status, answer.weight), (StatusCode::SERVICE_UNAVAILABLE, 1));
    }

    #[test]
    fn a_newer_agent_is_understood() {
        let line =
            r#"{"state":{"healthy":true,"services":[{"name":"a","port":1,"shiny":2}],"more":3}}"#;
        let Order::State(state) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        assert_eq!((state.healthy, state.services[0].port), (true, 1));
    }
}
