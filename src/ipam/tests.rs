// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn pool(cidrs: &[&str]) -> Pool {
    Pool::new(cidrs.iter().map(|cidr| cidr.parse().unwrap()))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_network_the_gateway_and_the_broadcast_address_are_never_given() {
    let mut pool = pool(&["10.1.0.0/29"]);
    let given: Vec<IpAddr> = (0..5).map(|n| pool.allocate(&n.to_string()).unwrap()[0]).collect();
    assert_eq!(given, ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"].map(ip));
    assert_eq!(pool.gateways().collect::<Vec<_>>(), [ip("10.1.0.1")]);
}

#[test]
fn a_dual_stack_pod_gets_one_address_a_family() {
    let mut pool = pool(&["fd00:1::/64", "10.1.0.0/24"]);
    assert_eq!(pool.allocate("a").unwrap(), [ip("10.1.0.2"), ip("fd00:1::2")]);
}

#[test]
fn a_full_cidr_is_named_and_nothing_is_half_given() {
    let mut pool = pool(&["fd00:1::/64", "10.1.0.0/30"]);
    pool.allocate("a").unwrap();
    let error = pool.allocate("b").unwrap_err();
    assert_eq!(error, Error::Exhausted { cidrs: "10.1.0.0/30".into(), capacity: 1 });
    assert!(pool.held("b").is_empty());
    assert_eq!(pool.holder(ip("fd00:1::3")), None);
}

#[test]
fn cidrs_too_small_for_a_pod_are_exhausted_from_the_start() {
    for cidr in ["10.1.0.0/32", "10.1.0.0/31", "fd00::1/128", "fd00::/127"] {
        let mut pool = pool(&[cidr]);
        assert!(matches!(pool.allocate("a"), Err(Error::Exhausted { capacity: 0, .. })), "{cidr}");
        assert_eq!(pool.gateways().count(), 0, "{cidr}");
    }
}

#[test]
fn the_whole_of_ipv6_is_a_cidr_too() {
    assert_eq!(pool(&["::/0"]).allocate("a").unwrap(), [ip("::2")]);
    assert_eq!(pool(&["0.0.0.0/0"]).allocate("a").unwrap(), [ip("0.0.0.2")]);
}

#[test]
fn a_freed_address_rests_until_the_others_were_used() {
    let mut pool = pool(&["10.1.0.0/29"]);
    pool.allocate("a").unwrap();
    pool.release("a");
    assert_eq!(pool.allocate("b").unwrap(), [ip("10.1.0.3")]);
    for holder in ["c", "d", "e"] {
        pool.allocate(holder).unwrap();
    }
    assert_eq!(pool.allocate("f").unwrap(), [ip("10.1.0.2")]);
}

#[test]
fn a_second_cidr_of_a_family_serves_when_the_first_is_full() {
    let mut pool = pool(&["10.1.0.0/30", "10.2.0.0/30"]);
    assert_eq!(pool.allocate("a").unwrap(), [ip("10.1.0.2")]);
    assert_eq!(pool.allocate("b").unwrap(), [ip("10.2.0.2")]);
    assert!(
        pool.allocate("c").unwrap_err().to_string().contains("`10.1.0.0/30,10.2.0.0/30`"),
        "both CIDRs are named"
    );
}

#[test]
fn restored_addresses_are_not_given_again() {
    let mut pool = pool(&["10.1.0.0/29"]);
    pool.restore("a", [ip("10.1.0.3")]).unwrap();
    assert_eq!(pool.allocate("b").unwrap(), [ip("10.1.0.4")]);
    assert_eq!(
        pool.restore("c", [ip("10.1.0.3")]),
        Err(Error::Taken { ip: ip("10.1.0.3"), holder: "a".into() })
    );
    pool.restore("a", [ip("10.1.0.5")]).unwrap();
    assert_eq!(pool.holder(ip("10.1.0.3")), None, "a second restore replaces the first");
}

#[test]
fn new_cidrs_leave_running_pods_alone() {
    let mut pool = pool(&["10.1.0.0/29"]);
    pool.allocate("a").unwrap();
    pool.set_cidrs(["10.2.0.0/29".parse().unwrap()]);
    assert_eq!(pool.held("a"), [ip("10.1.0.2")]);
    assert_eq!(pool.allocate("b").unwrap(), [ip("10.2.0.2")]);
    pool.set_cidrs(["10.1.0.0/29".parse().unwrap()]);
    assert_eq!(pool.allocate("c").unwrap(), [ip("10.1.0.3")]);
}

#[test]
fn a_node_without_pod_cidr_says_so() {
    assert_eq!(Pool::default().allocate("a"), Err(Error::NoCidr));
}

proptest! {
    #[test]
    fn no_address_has_two_holders(steps in prop::collection::vec((any::<bool>(), 0u8..12), 1..200)) {
        let mut pool = pool(&["10.1.0.0/29", "10.9.0.0/30", "fd00::/125"]);
        let mut model: BTreeMap<u8, Vec<IpAddr>> = BTreeMap::new();
        for (add, holder) in steps {
            if add {
                match pool.allocate(&holder.to_string()) {
                    Ok(ips) => {
                        prop_assert_eq!(ips.len(), 2);
                        model.insert(holder, ips);
                    }
                    Err(_) => prop_assert_eq!(model.len(), 6, "6 addresses of each family"),
                }
            } else {
                let freed = pool.release(&holder.to_string());
                prop_assert_eq!(freed, model.remove(&holder).unwrap_or_default());
            }
            let all: Vec<&IpAddr> = model.values().flatten().collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        }
    }
}
