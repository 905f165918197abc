// SPDX-License-Identifier: Apache-2.0
//! What an agent leaves, and the next one takes over.

use super::key;
use super::support::{Kernel, endpoint, service, slice};
use crate::abi::{TargetState, TargetStatus};
use crate::lb::Balancer;

#[test]
fn a_restart_with_the_same_objects_writes_nothing() {
    let mut kernel = Kernel::new();
    let objects = |balancer: &mut Balancer| {
        balancer.set_service(service("web", &["10.96.0.1"]));
        balancer.set_slice(slice("web", vec![endpoint("10.1.0.1")]));
        balancer.set_service(service("empty", &["10.96.0.2"]));
    };
    objects(&mut kernel.balancer);
    kernel.sync();
    let before = kernel.tables.clone();
    kernel.restart();
    objects(&mut kernel.balancer);
    for plan in kernel.balancer.plan(10) {
        assert!(plan.is_empty(), "{plan:?}");
    }
    assert!(kernel.balancer.prune(true).is_empty());
    assert_eq!(kernel.tables, before);
}

#[test]
fn a_restart_keeps_ids_and_targets_of_what_stayed() {
    let mut kernel = Kernel::new();
    for (name, vip) in [("a", "10.96.0.1"), ("b", "10.96.0.2")] {
        kernel.balancer.set_service(service(name, &[vip]));
        kernel.balancer.set_slice(slice(name, vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")]));
    }
    kernel.sync();
    let id = kernel.tables.services[&key("10.96.0.2", 80)].id;
    let target = kernel.backend(id, "10.1.0.2").target;

    kernel.restart();
    kernel.balancer.set_service(service("b", &["10.96.0.2"]));
    kernel.balancer.set_slice(slice("b", vec![endpoint("10.1.0.2")]));
    kernel.sync();
    assert_eq!(kernel.tables.services[&key("10.96.0.2", 80)].id, id);
    assert_eq!(kernel.backend(id, "10.1.0.2").target, target);
    assert!(kernel.tables.services.contains_key(&key("10.96.0.1", 80)), "not pruned yet");

    kernel.prune();
    assert_eq!(kernel.tables.services.len(), 1);
    assert_eq!(kernel.tables.backends.len(), 1);
    let alive = |state: &&TargetState| state.status == TargetStatus::Active as u8;
    assert_eq!(kernel.tables.targets.values().filter(alive).count(), 1);
}

#[test]
fn a_reserved_target_survives_a_restart_and_is_nobody_elses() {
    let mut kernel = Kernel::new();
    let (target, write) = kernel.balancer.reserve_target().unwrap();
    kernel.tables.apply(write);
    kernel.restart_with(&[target]);
    kernel.prune();
    assert_eq!(kernel.tables.targets[&target.index].status, TargetStatus::Active as u8);
    kernel.balancer.set_service(service("web", &["10.96.0.1"]));
    kernel.balancer.set_slice(slice("web", vec![endpoint("10.1.0.1")]));
    kernel.sync();
    assert_ne!(kernel.target("10.1.0.1"), target.index);
    let write = kernel.balancer.release_target(target);
    kernel.tables.apply(write);
    assert_eq!(kernel.tables.targets[&target.index].status, TargetStatus::Gone as u8);
}
