// SPDX-License-Identifier: Apache-2.0
//! The kube source against the test API server.

use std::fs;
use std::time::Duration;

use culvert::k8s::kube::Options;
use culvert::model::{Kind, SourceStatus};

use super::objects::{follow, node, options, pod, port, service, slice};
use crate::support::apiserver::{ApiServer, Resource};

#[tokio::test]
async fn lists_come_in_pages_and_only_this_nodes_pods_are_asked_for() {
    let server = ApiServer::start().await;
    for number in 0..7 {
        server.set(service(&format!("s{number}"), 80));
    }
    server.set(node("n1"));
    server.set(pod("mine", "n1"));
    server.set(pod("theirs", "n2"));
    let mut listener = follow(Options { streamed_lists: false, page_size: 3, ..options(&server) });
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(
        listener.world.names(Kind::Service),
        "shop/s0 shop/s1 shop/s2 shop/s3 shop/s4 shop/s5 shop/s6"
    );
    assert_eq!(listener.world.names(Kind::Pod), "shop/mine");
    assert!(listener.world.log.contains(&"listed 7 Service".to_owned()));

    let pages = server.requests();
    let pages = pages.iter().filter(|r| r.contains("/services?") && !r.contains("watch="));
    assert_eq!(pages.count(), 3);
}

#[tokio::test]
async fn streamed_lists_are_used_and_headless_objects_are_not_sent() {
    let server = ApiServer::start().await;
    server.set(service("web", 80));
    let mut headless = service("headless", 80);
    headless["spec"]["clusterIP"] = "None".into();
    server.set(headless);
    server.set(slice("web-1", &[("kubernetes.io/service-name", "web")]));
    server.set(slice(
        "headless-1",
        &[("kubernetes.io/service-name", "headless"), ("service.kubernetes.io/headless", "")],
    ));
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(listener.world.names(Kind::Service), "shop/web");
    assert_eq!(listener.world.names(Kind::EndpointSlice), "shop/web-1");
    assert!(server.requests().iter().all(|request| request.contains("watch=true")));
    let status = listener.until_status("connected", |status| status.connected).await;
    assert_eq!(status.name, format!("kube {}", server.url()));
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_asked_for_pages() {
    let server = ApiServer::start().await;
    server.streamed_lists(false);
    server.set(service("web", 80));
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(listener.world.names(Kind::Service), "shop/web");
    let status = listener.until_status("connected", |status| status.connected).await;
    assert_eq!(status.problems, []);
}

#[tokio::test]
async fn changes_are_followed() {
    let server = ApiServer::start().await;
    server.set(service("web", 80));
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.world.log.clear();

    server.set(service("web", 81));
    listener.until("the change", |world| port(world, "web") == Some(81)).await;
    server.set(service("api", 80));
    listener.until("the new one", |world| port(world, "api") == Some(80)).await;
    // Becoming headless is being removed, coming back is being set.
    let mut headless = service("api", 80);
    headless["spec"]["clusterIP"] = "None".into();
    server.set(headless);
    listener.until("the headless one", |world| port(world, "api").is_none()).await;
    server.set(service("api", 82));
    listener.until("its return", |world| port(world, "api") == Some(82)).await;
    server.delete(Resource::Services, "shop", "web");
    listener.until("the deletion", |world| port(world, "web").is_none()).await;
    assert_eq!(
        listener.world.log,
        [
            "set Service(shop/web)",
            "set Service(shop/api)",
            "removed Service(shop/api)",
            "set Service(shop/api)",
            "removed Service(shop/web)"
        ]
    );
}

#[tokio::test]
async fn an_object_that_cannot_be_used_is_named_and_what_it_replaced_stays() {
    let server = ApiServer::start().await;
    server.set(service("web", 80));
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;

    let mut bad = service("web", 80);
    bad["spec"]["clusterIP"] = "10.96.0.256".into();
    server.set(bad);
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert_eq!(status.problems[0].subject, "Service shop/web");
    assert_eq!(status.problems[0].message, "`spec.clusterIP` is `10.96.0.256`, not an IP address");
    assert!(status.connected);
    // Also through a new list.
    server.set(service("api", 80));
    listener.until("another one", |world| port(world, "api").is_some()).await;
    server.expire_history();
    server.delete(Resource::Services, "shop", "api");
    server.drop_connections();
    listener.until("the new list", |world| port(world, "api").is_none()).await;
    assert_eq!(port(&listener.world, "web"), Some(80));

    server.set(service("web", 81));
    listener.until("the repair", |world| port(world, "web") == Some(81)).await;
    listener.until_status("no problem", |status| status.problems.is_empty()).await;
}

#[tokio::test]
async fn bookmarks_move_the_watch_forward() {
    let server = ApiServer::start().await;
    server.set(node("n1"));
    server.set(service("web", 80));
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    // Only services change; the node watch learns of the version from a bookmark alone. The
    // history before the bookmark is then gone, which must not matter to it.
    for port_number in 81..91 {
        server.set(service("web", port_number));
    }
    listener.until("the last change", |world| port(world, "web") == Some(90)).await;
    server.expire_history();
    server.bookmark();
    server.end_watches();
    listener.world.log.clear();
    server.set(node("n2"));
    listener.until("the new node", |world| world.names(Kind::Node) == "n1 n2").await;
    assert_eq!(listener.world.log, ["set Node(\"n2\")"], "nothing is listed again");
}

#[tokio::test]
async fn after_an_expired_watch_what_vanished_is_removed() {
    let mut server = ApiServer::start().await;
    for name in ["a", "b", "c"] {
        server.set(service(name, 80));
    }
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;

    server.go_away().await;
    server.delete(Resource::Services, "shop", "b");
    server.set(service("d", 80));
    server.expire_history();
    server.come_back().await;
    listener.until("the new list", |w| w.names(Kind::Service) == "shop/a shop/c shop/d").await;
    assert!(listener.world.log.contains(&"listed 3 Service".to_owned()));
}

/// The pause after a failure doubles; one that was long is not waited for once the server answers.
#[tokio::test]
async fn after_an_outage_an_expired_watch_does_not_wait_as_if_it_went_on() {
    let mut server = ApiServer::start().await;
    server.set(service("web", 80));
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    server.go_away().await;
    // Three attempts fail in this time, and the pause after the fourth is 6.4 s.
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.set(service("web", 81));
    server.expire_history();
    server.come_back().await;
    let expired = |status: &SourceStatus| {
        status.troubles.get(&(Kind::Service, "expired")).copied().unwrap_or(0) > 0
    };
    listener.until_status("the expiry", expired).await;
    let caught_up = listener.until("the new list", |world| port(world, "web") == Some(81));
    tokio::time::timeout(Duration::from_secs(5), caught_up).await.expect("it is listed at once");
}

#[tokio::test]
async fn a_list_that_expires_between_two_pages_is_begun_again() {
    let server = ApiServer::start().await;
    for number in 0..6 {
        server.set(service(&format!("s{number}"), 80));
    }
    server.delay(Duration::from_millis(100));
    let options = Options { streamed_lists: false, page_size: 2, ..options(&server) };
    let mut listener = follow(options);
    while !server.requests().iter().any(|r| r.contains("/services?") && r.contains("continue=")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.expire_history();
    server.delete(Resource::Services, "shop", "s0");
    server.delay(Duration::ZERO);
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert!(listener.world.names(Kind::Service).ends_with("shop/s4 shop/s5"));
    listener.until("the deletion", |world| port(world, "s0").is_none()).await;
}

#[tokio::test]
async fn a_server_that_is_away_takes_nothing_away_and_is_caught_up_with() {
    let mut server = ApiServer::start().await;
    server.set(service("web", 80));
    server.set(service("old", 80));
    let mut listener = follow(options(&server));
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.until_status("connected", |status| status.connected).await;
    listener.world.log.clear();

    server.go_away().await;
    let status =
        listener.until_status("disconnected", |s| !s.connected && !s.problems.is_empty()).await;
    assert_eq!(status.problems[0].subject, "API server");
    assert!(status.problems[0].message.contains("stays in force"), "{status:?}");
    assert_eq!(listener.world.log, [""; 0]);
    assert_eq!(listener.world.names(Kind::Service), "shop/old shop/web");

    server.delete(Resource::Services, "shop", "old");
    server.set(service("web", 81));
    server.come_back().await;
    listener.until("the change", |w| port(w, "web") == Some(81) && port(w, "old").is_none()).await;
    let status = listener.until_status("connected", |status| status.connected).await;
    assert_eq!(status.problems, []);
    // Resumed, not listed again.
    assert_eq!(listener.world.log, ["removed Service(shop/old)", "set Service(shop/web)"]);
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_counts_as_away() {
    let server = ApiServer::start().await;
    server.set(service("web", 80));
    server.half_dead(true);
    let options = Options { answer_timeout: Duration::from_millis(200), ..options(&server) };
    let mut listener = follow(options);
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert!(!status.connected);
    assert!(status.problems[0].message.contains("no answer within 200ms"), "{status:?}");

    server.half_dead(false);
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.until_status("connected", |s| s.connected && s.problems.is_empty()).await;
}

#[tokio::test]
async fn a_forbidden_kind_is_a_problem_of_that_kind_alone() {
    let server = ApiServer::start().await;
    server.forbid(Resource::Pods);
    server.set(service("web", 80));
    let mut listener = follow(options(&server));
    listener.until("the other kinds", |world| world.listed.len() == 3).await;
    assert!(!listener.world.listed.contains(&Kind::Pod));
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert!(status.connected, "{status:?}");
    assert_eq!(status.problems.len(), 1);
    assert_eq!(status.problems[0].subject, "API server, pods");
    assert!(status.problems[0].message.contains("grant list and watch on `pods`"), "{status:?}");
    server.set(service("web", 81));
    listener.until("a change meanwhile", |world| port(world, "web") == Some(81)).await;

    server.permit(Resource::Pods);
    listener.until("the role", |world| world.listed.contains(&Kind::Pod)).await;
    listener.until_status("no problem", |status| status.problems.is_empty()).await;
}

#[tokio::test]
async fn a_replaced_token_is_read_again() {
    let server = ApiServer::start().await;
    server.set(service("web", 80));
    server.require_token("first");
    let account = tempfile::tempdir().unwrap();
    fs::write(account.path().join("token"), "first").unwrap();
    let options = Options { service_account: account.path().into(), ..options(&server) };
    let mut listener = follow(options);
    listener.until("all kinds", |world| world.listed.len() == 4).await;

    server.require_token("second");
    server.drop_connections();
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert!(status.problems.iter().any(|p| p.message.contains("token is refused")), "{status:?}");
    assert_eq!(listener.world.names(Kind::Service), "shop/web");

    fs::write(account.path().join("token"), "second").unwrap();
    server.set(service("web", 81));
    listener.until("the change", |world| port(world, "web") == Some(81)).await;
    listener.until_status("no problem", |s| s.connected && s.problems.is_empty()).await;
}
