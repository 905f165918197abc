// SPDX-License-Identifier: Apache-2.0
//! `/v1/explain` and `/v1/check`: what operators ask the control loop.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::oneshot;

use super::Shared;
use super::http::{self, Answer};
use crate::agent::source::{self, Snapshot};
use crate::agent::{Asked, Command, Noted, Unclear};
use crate::lb::{self, Question};
use crate::model::{ObjectName, Problem};
use crate::view::DifferenceRow;

/// The loop answers between two batches.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A change that the source has made and not told yet arrives within this time, or is lost.
const DELIVERY: Duration = Duration::from_secs(1);

/// How often a comparison that the source's new list has overtaken is begun again.
const ATTEMPTS: usize = 3;

type Reply<T> = Result<T, Box<Answer>>;

/// `?service=NAMESPACE/NAME` or `?address=IP&port=PORT`, and `from=IP` where a client is meant.
pub(super) async fn explain(query: &str, shared: &Shared) -> Reply<Answer> {
    let asked = parse(query).map_err(bad)?;
    let question = asked.question.clone();
    let (reply, answer) = oneshot::channel();
    let mut found = ask(shared, Command::Explain { asked, reply }, answer).await?;
    if let Question::Service(name) = &question
        && found.services.is_empty()
    {
        let why = source::why_not(&shared.config, name).await;
        found = lb::Answer { notes: vec![why], ..found };
    }
    Ok(http::json(StatusCode::OK, &found))
}

pub(super) async fn check(shared: &Shared) -> Reply<Answer> {
    for _ in 0..ATTEMPTS {
        match differences(shared).await? {
            Ok(found) => {
                let row = |problem: Problem| DifferenceRow {
                    subject: problem.subject,
                    difference: problem.message,
                };
                let rows: Vec<DifferenceRow> = found.into_iter().map(row).collect();
                return Ok(http::json(StatusCode::OK, &rows));
            }
            Err(Unclear::Moved) => {}
            Err(Unclear::NotReady(why)) => return Err(unavailable(why)),
            Err(Unclear::Failed(why)) => return Err(unavailable(&why)),
        }
    }
    Err(unavailable("the source is being listed anew again and again; try again"))
}

/// Differences that are there to stay. What changes meanwhile is none: the source's list is judged
/// only by objects of which no news came from before it was asked for until all that it may have
/// been ahead of has arrived.
async fn differences(shared: &Shared) -> Reply<Result<Vec<Problem>, Unclear>> {
    let noted = Arc::new(Noted::default());
    let (reply, answer) = oneshot::channel();
    let observe = Command::Observe { noted: Arc::clone(&noted), reply };
    let kinds = match ask(shared, observe, answer).await? {
        Ok(kinds) => kinds,
        Err(why) => return Ok(Err(why)),
    };
    let listed = source::snapshot(&shared.config, &kinds).await;
    let source = Arc::new(listed.map_err(|error| unavailable(&format!("{error:#}")))?);

    let first = compare(shared, &source, &noted).await?;
    if !first.as_ref().is_ok_and(|found| !found.is_empty()) {
        return Ok(first);
    }
    tokio::time::sleep(DELIVERY).await;
    let again = compare(shared, &source, &noted).await?;
    Ok(first.and_then(|first| {
        again.map(|found| found.into_iter().filter(|problem| first.contains(problem)).collect())
    }))
}

async fn compare(
    shared: &Shared,
    source: &Arc<Snapshot>,
    noted: &Arc<Noted>,
) -> Reply<Result<Vec<Problem>, Unclear>> {
    let (reply, answer) = oneshot::channel();
    let (source, noted) = (Arc::clone(source), Arc::clone(noted));
    ask(shared, Command::Check { source, noted, reply }, answer).await
}

async fn ask<T>(shared: &Shared, command: Command, answer: oneshot::Receiver<T>) -> Reply<T> {
    let asked = async {
        shared
            .agent
            .commands
            .send(command)
            .await
            .map_err(|_| unavailable("the agent is stopping"))?;
        answer.await.map_err(|_| unavailable("the agent is stopping"))
    };
    tokio::time::timeout(TIMEOUT, asked)
        .await
        .unwrap_or_else(|_| Err(unavailable("the agent is busy; try again")))
}

fn unavailable(why: &str) -> Box<Answer> {
    Box::new(http::refuse(StatusCode::SERVICE_UNAVAILABLE, why))
}

fn parse(query: &str) -> Result<Asked, String> {
    let (mut service, mut address, mut port, mut from) = (None, None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let bad = |what: &str| format!("`{value}` is no {what}");
        match name {
            "service" => {
                let (space, name) = value.split_once('/').ok_or_else(|| bad("NAMESPACE/NAME"))?;
                service = Some(ObjectName::new(space, name));
            }
            "address" => address = Some(value.parse::<IpAddr>().map_err(|_| bad("IP address"))?),
            "port" => port = Some(value.parse::<u16>().map_err(|_| bad("port"))?),
            "from" => from = Some(value.parse::<IpAddr>().map_err(|_| bad("IP address"))?),
            _ => {
                return Err(format!(
                    "there is no parameter `{name}`; there are `service`, `address`, `port`, `from`"
                ));
            }
        }
    }
    let question = match (service, address, port) {
        (Some(name), None, None) => Question::Service(name),
        (None, Some(ip), Some(port)) => Question::Address(ip, port),
        _ => return Err("give either `service`, or `address` and `port`".to_owned()),
    };
    if let (Question::Address(ip, _), Some(from)) = (&question, from)
        && ip.is_ipv4() != from.is_ipv4()
    {
        return Err(format!("a client at {from} cannot ask {ip}, which is of the other IP family"));
    }
    Ok(Asked { question, from })
}

fn bad(text: String) -> Box<Answer> {
    Box::new(http::refuse(StatusCode::BAD_REQUEST, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_a_service_or_a_frontend() {
        let question = Question::Service(ObjectName::new("default", "web"));
        assert_eq!(parse("service=default/web"), Ok(Asked { question, from: None }));
        let asked = parse("address=fd00::1&port=80&from=fd00::2").unwrap();
        assert_eq!(asked.question, Question::Address("fd00::1".parse().unwrap(), 80));
        assert_eq!(asked.from, Some("fd00::2".parse().unwrap()));
    }

    #[test]
    fn a_question_that_cannot_be_meant_is_named() {
        for (query, word) in [
            ("", "either"),
            ("service=web", "NAMESPACE/NAME"),
            ("address=10.0.0.1", "either"),
            ("address=x&port=80", "`x`"),
            ("address=10.0.0.1&port=99999", "`99999`"),
            ("service=a/b&address=10.0.0.1&port=1", "either"),
            ("address=10.0.0.1&port=80&from=fd00::1", "other IP family"),
            ("address=fd00::1&port=80&from=10.0.0.1", "other IP family"),
            ("what=1", "`what`"),
        ] {
            assert!(parse(query).unwrap_err().contains(word), "{query}");
        }
    }
}
