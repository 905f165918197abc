// SPDX-License-Identifier: Apache-2.0
//! Follows one kind for ever.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use ::kube::runtime::WatchStreamExt as _;
use ::kube::runtime::watcher::{self, Event, InitialListStrategy};
use ::kube::{Api, Client};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::board::{Board, Link};
use super::client::Options;
use super::feed::Feed;
use super::link;
use super::transport::{Transport, deepest};
use crate::k8s::decode::Wire;
use crate::model::{Change, Problem};

/// Why a watch was given up for another.
enum Next {
    /// Nobody listens any more.
    Stop,
    /// The server does not stream lists.
    Pages,
    /// The server no longer has the changes since the last one that came. It is there, so however
    /// long it was away before, it is asked again soon.
    Relist,
    /// The server does not accept who we say we are; the token may have been replaced.
    Reconnect,
}

pub(super) async fn reflect<K>(
    options: &Options,
    transport: &Arc<Transport>,
    mut config: watcher::Config,
    tx: &mpsc::Sender<Change>,
    board: &Board,
) where
    K: Wire + Clone + Debug + Send + 'static,
{
    let mut feed = Feed::new(options.proxy_name.clone());
    let mut pause = watcher::DefaultBackoff::default();
    let (answered, cut_off) = (board.clone(), board.clone());
    let client = link::client(
        Arc::clone(transport),
        move || answered.link(K::KIND, Link::Up),
        move || cut_off.trouble(K::KIND, "connection"),
    );
    loop {
        let next = tokio::select! {
            next = follow::<K>(options, client.clone(), &config, &mut feed, tx, board) => next,
            () = tx.closed() => Next::Stop,
        };
        match next {
            Next::Stop => return,
            Next::Pages => {
                config.initial_list_strategy = InitialListStrategy::ListWatch;
                continue;
            }
            Next::Relist => {}
            Next::Reconnect => transport.forget().await,
        }
        tokio::select! {
            () = tokio::time::sleep(pause.next().unwrap_or(options.answer_timeout)) => {}
            () = tx.closed() => return,
        }
    }
}

/// Runs one watcher until something calls for another.
async fn follow<K>(
    options: &Options,
    client: Client,
    config: &watcher::Config,
    feed: &mut Feed,
    tx: &mpsc::Sender<Change>,
    board: &Board,
) -> Next
where
    K: Wire + Clone + Debug + Send + 'static,
{
    let streamed = config.initial_list_strategy == InitialListStrategy::StreamingList;
    let api = Api::<K>::all(client);
    let mut events = pin!(watcher::watcher(api, config.clone()).default_backoff());
    let mut listing = true;
    loop {
        let event = if listing && streamed {
            // A server that takes no notice of the wish for a streamed list sends changes alone,
            // and never the end of the list.
            match tokio::time::timeout(options.answer_timeout * 2, events.next()).await {
                Ok(event) => event,
                Err(_) => return Next::Pages,
            }
        } else {
            events.next().await
        };
        let Some(event) = event else { return Next::Reconnect };
        match event {
            Ok(event) => {
                match event {
                    Event::Init => listing = true,
                    Event::InitDone => listing = false,
                    _ => {}
                }
                let before = feed.problems.len();
                let settled = !matches!(event, Event::Init | Event::InitApply(_));
                let changes = feed.changes(event);
                // First: who has got a list finds there what the list had to leave out.
                if settled && (before, feed.problems.len()) != (0, 0) {
                    board.objects(K::KIND, &feed.problems);
                }
                for change in changes {
                    if tx.send(change).await.is_err() {
                        return Next::Stop;
                    }
                }
            }
            Err(error) => {
                let (reason, trouble) = trouble::<K>(&error);
                board.trouble(K::KIND, reason);
                match trouble {
                    Trouble::Expired => {
                        tracing::debug!(kind = K::KIND.name(), "the watch expired, listing again");
                        return Next::Relist;
                    }
                    Trouble::NoStreams if streamed && listing => return Next::Pages,
                    Trouble::NoStreams => board.link(K::KIND, Link::Down(away(&error))),
                    Trouble::Unauthorized(problem) => {
                        board.link(K::KIND, Link::Refused(problem));
                        return Next::Reconnect;
                    }
                    Trouble::Refused(problem) => board.link(K::KIND, Link::Refused(problem)),
                    Trouble::Away => board.link(K::KIND, Link::Down(away(&error))),
                }
            }
        }
    }
}

enum Trouble {
    /// 410: the watch fell too far behind.
    Expired,
    /// The server knows no streamed lists: 422 (gate off) or 400.
    NoStreams,
    Unauthorized(Problem),
    Refused(Problem),
    Away,
}

/// What an error means, and the word that metrics have for it.
fn trouble<K: Wire>(error: &watcher::Error) -> (&'static str, Trouble) {
    let plural = K::plural(&());
    let status = match error {
        watcher::Error::WatchError(status) => status,
        watcher::Error::InitialListFailed(::kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(::kube::Error::Api(status))
        | watcher::Error::WatchFailed(::kube::Error::Api(status)) => status,
        _ => return (lost(&deepest(error)), Trouble::Away),
    };
    let problem = |message| Problem { subject: format!("API server, {plural}"), message };
    match status.code {
        410 => ("expired", Trouble::Expired),
        400 | 422 => ("no_streams", Trouble::NoStreams),
        401 => (
            "unauthorized",
            Trouble::Unauthorized(problem(format!(
                "the token is refused ({}); check the service account or kubeconfig",
                status.message
            ))),
        ),
        403 => (
            "forbidden",
            Trouble::Refused(problem(format!(
                "{}; grant list and watch on `{plural}` to the agent's service account",
                status.message
            ))),
        ),
        // The server is there but not well: overloaded, or starting.
        429 | 500.. => ("unavailable", Trouble::Away),
        _ => ("refused", Trouble::Refused(problem(status.message.clone()))),
    }
}

/// How the connection was lost, in a word. The causes are of many types, private ones among them.
fn lost(cause: &str) -> &'static str {
    let words = [
        ("no answer within", "timeout"),
        ("fell silent", "timeout"),
        ("timed out", "timeout"),
        ("certificate", "tls"),
        ("alert", "tls"),
        ("handshake", "tls"),
        ("corrupt message", "tls"),
    ];
    words.iter().find(|(text, _)| cause.contains(text)).map_or("connection", |(_, word)| word)
}

/// One problem for all kinds: it is the server that is away.
fn away(error: &(dyn std::error::Error + 'static)) -> Problem {
    let cause = deepest(error);
    Problem {
        subject: "API server".to_owned(),
        message: format!("away ({cause}); what was last known stays in force"),
    }
}
