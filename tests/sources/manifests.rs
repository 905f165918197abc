// SPDX-License-Identifier: Apache-2.0
//! The manifests source on a real directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use culvert::k8s::manifests;
use culvert::model::{Kind, Object, ObjectKey, ObjectName};
use tempfile::TempDir;

use super::listener::{Listener, World};

#[tokio::test]
async fn the_first_look_lists_every_kind_once() {
    let dir = TempDir::new().unwrap();
    let text = format!("{}---\n{}", service("web", 1), slice("web-1", "web"));
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    fs::write(dir.path().join("notes.txt"), "not: [yaml").unwrap();
    let mut listener = follow(dir.path());
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(
        listener.world.log,
        ["listed 1 Service", "listed 1 EndpointSlice", "listed 0 Node", "listed 0 Pod"]
    );
    let status = listener.until_status("connected", |status| status.connected).await;
    assert_eq!(status.name, format!("manifests {}", dir.path().display()));
    assert_eq!(status.problems, []);
}

#[tokio::test]
async fn only_what_changed_is_sent() {
    let dir = TempDir::new().unwrap();
    let three = |port| [service("a", 1), service("b", port), service("c", 1)].join("---\n");
    fs::write(dir.path().join("all.yaml"), three(1)).unwrap();
    let mut listener = follow(dir.path());
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.world.log.clear();

    fs::write(dir.path().join("all.yaml"), three(2)).unwrap();
    listener.until("the new port", |world| port(world, "b") == Some(2)).await;
    fs::write(dir.path().join("more.json"), json_service("d")).unwrap();
    listener.until("the new file", |world| port(world, "d") == Some(80)).await;
    fs::remove_file(dir.path().join("all.yaml")).unwrap();
    listener.until("the removals", |w| w.names(Kind::Service) == "shop/d").await;
    assert_eq!(
        listener.world.log,
        [
            "set Service(shop/b)",
            "set Service(shop/d)",
            "removed Service(shop/a)",
            "removed Service(shop/b)",
            "removed Service(shop/c)"
        ]
    );
}

#[tokio::test]
async fn a_file_with_a_bad_document_takes_nothing_away() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("all.yaml");
    fs::write(&path, format!("{}---\n{}", service("a", 1), service("b", 1))).unwrap();
    let mut listener = follow(dir.path());
    listener.until("all kinds", |world| world.listed.len() == 4).await;

    fs::write(&path, format!("{}---\nkind: [broken\n", service("a", 2))).unwrap();
    listener.until("the good document", |world| port(world, "a") == Some(2)).await;
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert!(status.connected);
    assert_eq!(status.problems.len(), 1, "{status:?}");
    let subject = &status.problems[0].subject;
    assert!(subject.starts_with(&format!("{} document 2 line ", path.display())), "{subject}");
    // Whatever the bad file led to has come once this has.
    fs::write(dir.path().join("later.yaml"), service("later", 1)).unwrap();
    listener.until("a later file", |world| port(world, "later").is_some()).await;
    assert_eq!(listener.world.names(Kind::Service), "shop/a shop/b shop/later");

    fs::write(&path, format!("{}---\n{}", service("a", 2), service("c", 1))).unwrap();
    listener.until("the repair", |w| w.names(Kind::Service) == "shop/a shop/c shop/later").await;
    listener.until_status("no problem", |status| status.problems.is_empty()).await;
}

#[tokio::test]
async fn a_truncated_file_keeps_what_it_held_until_it_is_written_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.yaml");
    fs::write(&path, service("a", 1)).unwrap();
    let mut listener = follow(dir.path());
    listener.until("all kinds", |world| world.listed.len() == 4).await;

    fs::write(&path, "").unwrap();
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert!(status.problems[0].message.contains("is empty"), "{status:?}");
    assert_eq!(listener.world.names(Kind::Service), "shop/a");

    fs::write(&path, service("a", 3)).unwrap();
    listener.until("the new text", |world| port(world, "a") == Some(3)).await;
    assert_eq!(listener.world.log.iter().filter(|line| line.starts_with("removed")).count(), 0);
}

#[tokio::test]
async fn a_file_renamed_over_another_replaces_it_and_editors_files_are_ignored() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.yaml"), service("a", 1)).unwrap();
    let mut listener = follow(dir.path());
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    listener.world.log.clear();

    fs::write(dir.path().join(".a.yaml.swp"), service("swap", 1)).unwrap();
    fs::write(dir.path().join("a.yaml~"), service("backup", 1)).unwrap();
    fs::rename(dir.path().join(".a.yaml.swp"), dir.path().join("a.yaml")).unwrap();
    listener.until("the swap", |w| w.names(Kind::Service) == "shop/swap").await;

    // Under another name it stays what it is.
    fs::rename(dir.path().join("a.yaml"), dir.path().join("b.yml")).unwrap();
    fs::write(dir.path().join("c.yaml"), service("c", 1)).unwrap();
    listener.until("the third", |world| port(world, "c").is_some()).await;
    listener.world.log.clear();
    fs::remove_file(dir.path().join("b.yml")).unwrap();
    fs::write(dir.path().join("b.yml"), service("last", 1)).unwrap();
    listener.until("the last", |w| w.names(Kind::Service) == "shop/c shop/last").await;
    let removed = listener.world.log.iter().filter(|line| line.starts_with("removed"));
    assert_eq!(removed.collect::<Vec<_>>(), ["removed Service(shop/swap)"]);
}

#[tokio::test]
async fn a_config_map_is_swapped_as_one() {
    let dir = TempDir::new().unwrap();
    let version = |name: &str, text: String| {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("all.yaml"), text).unwrap();
        symlink(name, dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    };
    version("..2026_1", service("old", 1));
    symlink("..data/all.yaml", dir.path().join("all.yaml")).unwrap();
    let mut listener = follow(dir.path());
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(listener.world.names(Kind::Service), "shop/old");

    version("..2026_2", service("new", 1));
    fs::remove_dir_all(dir.path().join("..2026_1")).unwrap();
    listener.until("the swap", |w| w.names(Kind::Service) == "shop/new").await;
}

#[tokio::test]
async fn of_two_files_with_one_object_the_first_by_name_is_used() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("b.yaml"), service("a", 2)).unwrap();
    fs::write(dir.path().join("c.yaml"), service("a", 3)).unwrap();
    let mut listener = follow(dir.path());
    listener.until("all kinds", |world| world.listed.len() == 4).await;
    assert_eq!(port(&listener.world, "a"), Some(2));
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert_eq!(status.problems[0].subject, dir.path().join("c.yaml").display().to_string());
    let message = &status.problems[0].message;
    assert!(
        message.starts_with("Service `shop/a` is also in `b.yaml`, which is used"),
        "{message}"
    );

    fs::write(dir.path().join("a.yaml"), service("a", 1)).unwrap();
    listener.until("the earlier name", |world| port(world, "a") == Some(1)).await;
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    listener.until("the heir", |world| port(world, "a") == Some(2)).await;
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    listener.until("the last", |world| port(world, "a") == Some(3)).await;
    listener.until_status("no problem", |status| status.problems.is_empty()).await;
    assert_eq!(listener.world.log.iter().filter(|line| line.starts_with("removed")).count(), 0);
}

#[tokio::test]
async fn a_directory_that_is_away_takes_nothing_away_and_is_found_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("manifests");
    let mut listener = follow(&path);
    let status = listener.until_status("a problem", |s| !s.problems.is_empty()).await;
    assert!(!status.connected);
    assert!(status.problems[0].message.starts_with("there is no such directory"), "{status:?}");
    assert_eq!(listener.world.log, [""; 0], "nothing is listed that was not read");

    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), service("a", 1)).unwrap();
    listener.until("the directory", |world| port(world, "a") == Some(1)).await;

    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    listener.until_status("disconnected", |status| !status.connected).await;
    assert_eq!(listener.world.names(Kind::Service), "shop/a");

    fs::create_dir(&path).unwrap();
    fs::write(path.join("b.yaml"), service("b", 1)).unwrap();
    listener.until("the new one", |w| w.names(Kind::Service) == "shop/b").await;
}

fn follow(path: &Path) -> Listener {
    let (listener, tx, status) = Listener::new();
    tokio::spawn(manifests::run(path.to_owned(), None, tx, status));
    listener
}

fn port(world: &World, name: &str) -> Option<u16> {
    match world.objects.get(&ObjectKey::Service(ObjectName::new("shop", name)))? {
        Object::Service(service) => Some(service.ports[0].port),
        other => panic!("{other:?}"),
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: shop\nspec:\n  \
         clusterIP: 10.96.0.10\n  ports:\n  - port: {port}\n"
    )
}

fn json_service(name: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "{name}",
        "namespace": "shop"}}, "spec": {{"clusterIP": "10.96.0.4", "ports": [{{"port": 80}}]}}}}"#
    )
}

fn slice(name: &str, service: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  \
         namespace: shop\n  labels:\n    kubernetes.io/service-name: {service}\n\
         addressType: IPv4\nports:\n- port: 8080\nendpoints:\n- addresses: [10.244.1.5]\n"
    )
}
