// SPDX-License-Identifier: Apache-2.0
//! Servers that fail in every way while others of the same cluster do not, and credentials that
//! rotate under open watches. All of it over TLS, as in a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use culvert::k8s::kube::{Observer, Options};
use culvert::model::{Kind, SourceStatus};

use super::objects::{follow, port, service};
use super::tls::{account, in_cluster};
use crate::support::apiserver::{ApiServer, Authority, Resource};

/// Options for several servers of one cluster, with short patience.
fn several(servers: &[&ApiServer], account: &Path) -> Options {
    Options {
        host: None,
        servers: servers.iter().map(|server| server.url()).collect(),
        answer_timeout: Duration::from_millis(500),
        silence: Duration::from_millis(300),
        ..in_cluster(servers[0], account)
    }
}

fn in_use(status: &SourceStatus) -> Vec<bool> {
    status.servers.iter().map(|server| server.in_use).collect()
}

#[tokio::test]
async fn a_server_that_fails_in_any_way_is_left_for_the_next_at_once() {
    for (how, problem) in [
        ("refused", "refused"),
        ("of another authority", "certificate"),
        ("broken", "answers 500"),
        ("overloaded", "answers 503"),
        ("half-dead", "no answer within"),
    ] {
        let authority = Authority::new();
        let good = ApiServer::start_tls(&authority).await;
        let mut bad = good.start_beside(&authority).await;
        match how {
            "refused" => bad.go_away().await,
            "of another authority" => bad.certify(&Authority::new()).await,
            "broken" => bad.broken(Some(500)),
            "overloaded" => bad.broken(Some(503)),
            _ => bad.half_dead(true),
        }
        good.set(service("web", 80));
        let account = account(authority.pem(), "secret");
        let mut listener = follow(several(&[&bad, &good], account.path()));
        listener.until(how, |world| world.listed.len() == 4).await;
        let second = |status: &SourceStatus| in_use(status) == [false, true] && status.connected;
        let status = listener.until_status(how, second).await;
        let told = status.servers[0].problem.as_deref().unwrap_or_default();
        assert!(told.contains(problem), "{how}: {status:?}");
        assert!(status.servers[0].failures > 0, "{how}: {status:?}");
        // One good server is enough to be well.
        assert_eq!(status.problems, [], "{how}");
    }
}

#[tokio::test]
async fn watches_go_on_at_another_server_from_where_they_were_and_stay_there() {
    let authority = Authority::new();
    let mut first = ApiServer::start_tls(&authority).await;
    let mut second = first.start_beside(&authority).await;
    first.set(service("web", 80));
    let account = account(authority.pem(), "secret");
    let mut listener = follow(several(&[&first, &second], account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.until_status("the first", |status| in_use(status) == [true, false]).await;
    assert!(second.requests().is_empty(), "the preferred server is well: {:?}", second.requests());
    listener.world.log.clear();

    first.go_away().await;
    second.set(service("web", 81));
    listener.until("the change", |world| port(world, "web") == Some(81)).await;
    listener.until_status("the second", |status| in_use(status) == [false, true]).await;
    // Back, but nobody leaves a server that serves.
    first.come_back().await;
    second.end_watches();
    second.set(service("web", 82));
    listener.until("the next change", |world| port(world, "web") == Some(82)).await;
    listener.until_status("the second still", |status| in_use(status) == [false, true]).await;

    second.go_away().await;
    first.set(service("web", 83));
    listener.until("the last change", |world| port(world, "web") == Some(83)).await;
    listener.until_status("the first again", |status| in_use(status) == [true, false]).await;
    let log = &listener.world.log;
    assert!(log.iter().all(|line| line == "set Service(shop/web)"), "listed anew: {log:?}");
}

#[tokio::test]
async fn a_server_that_falls_silent_under_open_watches_is_noticed_and_left() {
    let authority = Authority::new();
    let first = ApiServer::start_tls(&authority).await;
    let second = first.start_beside(&authority).await;
    first.set(service("web", 80));
    let account = account(authority.pem(), "secret");
    let mut listener = follow(several(&[&first, &second], account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;

    // Connections stay open and nothing comes on them any more.
    first.half_dead(true);
    first.set(service("web", 81));
    listener.until("the change", |world| port(world, "web") == Some(81)).await;
    let status =
        listener.until_status("the second", |status| in_use(status) == [false, true]).await;
    let timeouts: u64 = status
        .troubles
        .iter()
        .filter(|((_, why), _)| *why == "timeout")
        .map(|(_, count)| count)
        .sum();
    assert!(timeouts > 0, "{status:?}");
}

#[tokio::test]
async fn the_only_server_falling_silent_shows_and_takes_nothing_away() {
    let authority = Authority::new();
    let server = ApiServer::start_tls(&authority).await;
    server.set(service("web", 80));
    let account = account(authority.pem(), "secret");
    let mut listener = follow(several(&[&server], account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.until_status("connected", |status| status.connected).await;
    listener.world.log.clear();

    server.half_dead(true);
    let status = listener.until_status("away", |status| !status.connected).await;
    assert_eq!(status.problems[0].subject, "API server");
    assert_eq!(listener.world.log, [""; 0]);
    server.half_dead(false);
    server.set(service("web", 81));
    listener.until("the change", |world| port(world, "web") == Some(81)).await;
    listener.until_status("no problem", |s| s.connected && s.problems.is_empty()).await;
}

#[tokio::test]
async fn a_quiet_server_that_answers_when_asked_keeps_its_watches() {
    let authority = Authority::new();
    let server = ApiServer::start_tls(&authority).await;
    server.set(service("web", 80));
    let account = account(authority.pem(), "secret");
    let mut listener = follow(several(&[&server], account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    let probes = || server.requests().iter().filter(|request| **request == "/readyz").count();
    let watches = |server: &ApiServer| {
        server.requests().iter().filter(|request| request.contains("watch=true")).count()
    };
    let before = watches(&server);
    while probes() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(watches(&server), before, "{:?}", server.requests());
}

#[tokio::test]
async fn a_token_that_rotates_under_open_watches_is_never_missed() {
    let authority = Authority::new();
    let server = ApiServer::start_tls(&authority).await;
    server.require_token("first");
    server.set(service("web", 80));
    let account = account(authority.pem(), "first");
    let mut listener = follow(in_cluster(&server, account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.until_status("connected", |status| status.connected).await;
    listener.world.log.clear();

    fs::write(account.path().join("token"), "second\n").unwrap();
    server.require_token("second");
    server.end_watches();
    server.set(service("web", 81));
    listener.until("the change", |world| port(world, "web") == Some(81)).await;
    let status = listener.until_status("connected", |status| status.connected).await;
    let refused = status.troubles.keys().any(|(_, reason)| *reason == "unauthorized");
    assert!(!refused, "the old token was sent: {status:?}");
    assert_eq!(listener.world.log, ["set Service(shop/web)"]);
}

#[tokio::test]
async fn an_authority_that_rotates_is_believed_once_its_file_is_there() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut server = ApiServer::start_tls(&old).await;
    server.set(service("web", 80));
    let account = account(old.pem(), "secret");
    let mut listener = follow(in_cluster(&server, account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.world.log.clear();

    server.certify(&new).await;
    let tls = |status: &SourceStatus| status.troubles.keys().any(|(_, reason)| *reason == "tls");
    let status = listener.until_status("a problem", |s| tls(s) && !s.problems.is_empty()).await;
    assert!(!status.connected && status.problems[0].message.contains("certificate"), "{status:?}");
    fs::write(account.path().join("ca.crt"), new.pem()).unwrap();
    server.set(service("web", 81));
    listener.until("the change", |world| port(world, "web") == Some(81)).await;
    listener.until_status("no problem", |s| s.connected && s.problems.is_empty()).await;
    assert_eq!(listener.world.log, ["set Service(shop/web)"]);
}

#[tokio::test]
async fn each_kind_of_trouble_is_counted_for_the_kind_that_has_it() {
    let authority = Authority::new();
    let server = ApiServer::start_tls(&authority).await;
    server.forbid(Resource::Pods);
    server.set(service("web", 80));
    let account = account(authority.pem(), "secret");
    let mut listener = follow(in_cluster(&server, account.path()));
    listener.until("the others", |world| world.listed.len() == 3).await;
    let count = |status: &SourceStatus, kind, reason| {
        status.troubles.get(&(kind, reason)).copied().unwrap_or(0)
    };
    let forbidden = |status: &SourceStatus| count(status, Kind::Pod, "forbidden") > 0;
    let status = listener.until_status("the refusal", forbidden).await;
    assert_eq!(count(&status, Kind::Service, "forbidden"), 0);
    let problem = &status.problems[0];
    assert_eq!(problem.subject, "API server, pods");
    for part in ["cannot watch resource \"pods\"", "grant list and watch on `pods`"] {
        assert!(problem.message.contains(part), "{problem:?}");
    }

    server.expire_history();
    server.drop_connections();
    let expired = |status: &SourceStatus| count(status, Kind::Service, "expired") > 0;
    listener.until_status("the expiry", expired).await;
    assert_eq!(port(&listener.world, "web"), Some(80));
}

#[tokio::test]
async fn the_kernel_keeps_an_eye_on_every_connection() {
    let authority = Authority::new();
    let server = ApiServer::start_tls(&authority).await;
    let account = account(authority.pem(), "secret");
    let mut listener = follow(in_cluster(&server, account.path()));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    let port: u16 = server.url().rsplit(':').next().unwrap().parse().unwrap();
    // Time left of each connection's keepalive timer, in seconds: /proc/net/tcp has the peer third,
    // the state fourth and `kind:jiffies` sixth; kind 2 is keepalive.
    let timers = || -> Option<Vec<u64>> {
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = rows.filter(|row| row[2].ends_with(&format!(":{port:04X}")) && row[3] == "01");
        ours.map(|row| {
            let left = row[5].strip_prefix("02:")?;
            Some(u64::from_str_radix(left, 16).unwrap() / 100)
        })
        .collect()
    };
    loop {
        // A segment on its way has another timer for a moment.
        if let Some(left) = timers() {
            assert!(!left.is_empty() && left.iter().all(|seconds| *seconds <= 10), "{left:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn every_request_is_told_with_its_server_and_how_it_was_answered() {
    let authority = Authority::new();
    let good = ApiServer::start_tls(&authority).await;
    let mut away = good.start_beside(&authority).await;
    away.go_away().await;
    let account = account(authority.pem(), "secret");
    let told = Arc::new(Mutex::new(BTreeSet::new()));
    let telling = Arc::clone(&told);
    let observer = Observer::new(move |each| {
        assert_eq!(each.method, "GET");
        telling.lock().unwrap().insert((each.host.to_owned(), each.code));
    });
    let options = Options { observer, ..several(&[&away, &good], account.path()) };
    let mut listener = follow(options);
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    let host = |server: &ApiServer| server.url().trim_start_matches("https://").to_owned();
    let expected = BTreeSet::from([(host(&away), None), (host(&good), Some(200))]);
    assert_eq!(*told.lock().unwrap(), expected);
}
