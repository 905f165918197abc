// SPDX-License-Identifier: Apache-2.0
//! Collection of expired flows.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use culvert::abi::{Addr, Affinity, AffinityKey, Flow, FlowKey, Zone, flow_flag};
use culvert::datapath::Datapath;
use culvert::datapath::aging::{Aging, HalfOpen, partner_key};
use culvert::datapath::map::Tally;
use zerocopy::FromZeros as _;

use crate::support::pins::{PinRoot, all_programs_but, config};

const NOW: u32 = 1_000_000;

/// All maps, `map` of `size` entries, and no program.
fn maps_with(root: &PinRoot, map: &str, size: u32) -> Datapath {
    let mut options = root.options();
    options.programs_off = all_programs_but(&[]).collect();
    options.map_sizes.insert(map.to_owned(), size);
    Datapath::open(options).unwrap()
}

#[test]
fn the_expired_go_in_both_directions_and_nothing_else() {
    let root = PinRoot::new();
    let datapath = maps_with(&root, "flows", 60_000);
    let flows = &datapath.maps().flows;
    let unreplied = config().udp_unreplied_timeout;

    let mut kept = BTreeSet::new();
    let mut entries = Vec::new();
    for number in 0..20_000 {
        // Every third is a tick past its life, the next one at its very end, the third is fresh.
        let idle = [unreplied + 1, unreplied, 0][number as usize % 3];
        for (key, mut flow) in connection(number) {
            flow.last_seen = NOW - idle;
            entries.push((key, flow));
            if idle <= unreplied {
                kept.insert(key);
            }
        }
    }
    assert!(flows.set_batch(&entries).is_empty());

    let mut aging = Aging::new(&config());
    let mut ticks = 0;
    while aging.counts().passes < 1 {
        aging.tick(flows, NOW).unwrap();
        ticks += 1;
    }
    assert!(ticks > 4, "the whole map was read in {ticks} ticks");
    let left: BTreeSet<_> = flows.entries().unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, kept);
    assert_eq!(aging.counts().deleted, (entries.len() - kept.len()) as u64);
    let gone_v6 = entries.iter().filter(|(key, _)| !kept.contains(key) && !key.saddr.is_v4());
    assert_eq!(aging.counts().deleted_v6, gone_v6.count() as u64);
    assert_eq!(aging.counts().entries, kept.len() as u64);
}

#[test]
fn what_leads_to_a_connection_goes_with_it() {
    let root = PinRoot::new();
    let datapath = maps_with(&root, "flows", 1_000);
    let flows = &datapath.maps().flows;
    let mut kept = BTreeSet::new();
    for number in 0..2 {
        let [(key, mut flow), (partner, other)] = connection(number);
        (flow.last_seen, flow.flags) = (NOW, flow_flag::DSR_ALIAS);
        flows.set(&key, &flow).unwrap();
        if number == 1 {
            flows.set(&partner, &Flow { last_seen: NOW, ..other }).unwrap();
            kept.extend([key, partner]);
        }
    }
    let mut aging = Aging::new(&config());
    while aging.counts().passes < 1 {
        aging.tick(flows, NOW).unwrap();
    }
    let left: BTreeSet<_> = flows.entries().unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, kept);
    assert_eq!((aging.counts().deleted, aging.counts().entries), (1, 2));
}

#[test]
fn the_half_open_are_counted_a_part_at_a_time() {
    let root = PinRoot::new();
    let datapath = maps_with(&root, "flows_new", 60_000);
    let flows = &datapath.maps().flows_new;
    let mut entries = Vec::new();
    for number in 0..6_000 {
        for (key, mut flow) in connection(number) {
            let dead = number.is_multiple_of(3);
            flow.last_seen = NOW - u32::from(dead) * (config().udp_unreplied_timeout + 1);
            entries.push((key, flow));
        }
    }
    assert!(flows.set_batch(&entries).is_empty());

    let mut half_open = HalfOpen::new(&config());
    let mut pass = || {
        let before = half_open.live();
        let mut ticks = 0;
        while half_open.live() == before {
            half_open.tick(flows, NOW).unwrap();
            ticks += 1;
        }
        (half_open.live(), ticks)
    };
    let (live, ticks) = pass();
    assert_eq!(live, 8_000);
    assert!(ticks > 1, "the whole map was read at once");
    let gone: Vec<_> = entries.iter().rev().map(|(key, _)| *key).take(3_000).collect();
    assert!(flows.remove_batch(&gone).is_empty());
    assert_eq!(pass().0, 6_000);
}

#[test]
fn other_maps_are_counted_a_part_at_a_time_too() {
    let root = PinRoot::new();
    let datapath = maps_with(&root, "affinities", 6_000);
    let affinities = &datapath.maps().affinities;
    let entry = |number: u32| {
        let key = AffinityKey { client: Addr::ZERO, service: number, pad: 0 };
        let last_used = NOW - 10 * (number % 3);
        (key, Affinity { target: 1, target_epoch: 1, pad: 0, last_used, pad2: 0 })
    };
    let entries: Vec<_> = (0..3_000).map(entry).collect();
    assert!(affinities.set_batch(&entries).is_empty());

    let mut tally = Tally::default();
    let mut pass = |least| {
        let (before, mut steps) = (tally.last(), 0);
        while tally.last() == before {
            tally.step(affinities, 4, |_, affinity| affinity.last_used >= least).unwrap();
            steps += 1;
        }
        (tally.last(), steps)
    };
    let (all, steps) = pass(0);
    assert_eq!(all, 3_000);
    assert!(steps > 1, "the whole map was read at once");
    assert_eq!(pass(NOW - 10).0, 2_000);
}

#[test]
fn a_key_that_another_flow_has_taken_over_stays() {
    let root = PinRoot::new();
    let datapath = maps_with(&root, "flows", 1_000);
    let flows = &datapath.maps().flows;
    let [(key, mut old), (partner, mut other)] = connection(1);
    // The partner's entry has come to belong to a flow that answers somebody else.
    old.last_seen = NOW - 1000;
    other.last_seen = NOW;
    other.dport = 7.into();
    flows.set(&key, &old).unwrap();
    flows.set(&partner, &other).unwrap();

    Aging::new(&config()).tick(flows, NOW).unwrap();
    let left: Vec<_> = flows.entries().unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [partner]);
}

#[test]
fn what_comes_between_the_look_and_the_removal_is_judged_as_well() {
    let root = PinRoot::new();
    let datapath = maps_with(&root, "flows", 1_000);
    let flows = &datapath.maps().flows;
    let [(key, old), _] = connection(1);
    let dead = |flow: &Flow| flow.last_seen == 0;
    for (newer, stays) in [(NOW, true), (0, false)] {
        flows.set(&key, &old).unwrap();
        let newer = Flow { last_seen: newer, service: 7, ..old };
        let looks = Cell::new(0);
        let gone = flows.remove_if(&key, |flow| {
            looks.set(looks.get() + 1);
            let judged = dead(flow);
            // Another connection opens the tuple.
            if looks.get() == 1 {
                flows.set(&key, &newer).unwrap();
            }
            judged
        });
        assert_eq!(gone.unwrap().map(|flow| flow.service), (!stays).then_some(7));
        assert_eq!(flows.get(&key).unwrap().map(|flow| flow.service), stays.then_some(7));
        assert_eq!(looks.get(), 2);
    }
    flows.set(&key, &Flow { last_seen: NOW, ..old }).unwrap();
    assert!(flows.remove_if(&key, dead).unwrap().is_none());
    assert!(flows.get(&key).unwrap().is_some());
    assert!(flows.remove(&key).unwrap());
    assert!(flows.remove_if(&key, dead).unwrap().is_none());
}

/// Clients go through their ports, and each has been another connection's not long ago.
#[test]
fn a_tuple_that_opens_anew_while_it_is_collected_stays_open() {
    const CONNECTIONS: u32 = 10_000;
    let root = PinRoot::new();
    let datapath = maps_with(&root, "flows", 4 * CONNECTIONS);
    let flows = &datapath.maps().flows;
    for round in 0..4 {
        let idle = NOW - config().udp_unreplied_timeout - 1;
        let entries = |last_seen| {
            let all = (0..CONNECTIONS).flat_map(connection);
            all.map(move |(key, flow)| (key, Flow { last_seen, ..flow }))
        };
        assert!(flows.set_batch(&entries(idle).collect::<Vec<_>>()).is_empty());
        let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut aging = Aging::new(&config());
                while !done.load(Ordering::Acquire) {
                    aging.tick(flows, NOW).unwrap();
                    begun.store(aging.counts().deleted > 0, Ordering::Release);
                }
            });
            while !begun.load(Ordering::Acquire) {
                thread::yield_now();
            }
            for (key, flow) in entries(NOW) {
                flows.set(&key, &flow).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let lost = entries(NOW).filter(|(key, _)| flows.get(key).unwrap().is_none()).count();
        assert_eq!(lost, 0, "round {round}");
    }
}

#[test]
fn a_partner_is_not_left_alone_until_its_own_turn() {
    let root = PinRoot::new();
    let datapath = maps_with(&root, "flows", 60_000);
    let flows = &datapath.maps().flows;
    // More than a tick reads: without pairing, a first tick would leave halves behind.
    for number in 0..5000 {
        for (key, mut flow) in connection(number) {
            flow.last_seen = NOW - 1000;
            flows.set(&key, &flow).unwrap();
        }
    }
    let keep = connection(50_000);
    for (key, mut flow) in keep {
        flow.last_seen = NOW;
        flows.set(&key, &flow).unwrap();
    }
    let mut aging = Aging::new(&config());
    aging.tick(flows, NOW).unwrap();
    assert_eq!(aging.counts().passes, 0);
    for (key, flow) in flows.entries().unwrap() {
        assert!(flows.get(&partner_key(&key, &flow)).unwrap().is_some(), "half a flow: {key:?}");
    }
}

/// Both directions of a UDP flow from 10.1.x.x to a service, sent on to 10.2.0.1.
fn connection(number: u32) -> [(FlowKey, Flow); 2] {
    let [client, service, backend] = if number.is_multiple_of(2) {
        let client = Addr::from_v4((0x0a01_0000 + number).into());
        [client, Addr::from_v4([10, 96, 0, 1].into()), Addr::from_v4([10, 2, 0, 1].into())]
    } else {
        let v6 = |last: u128| Addr::from(IpAddr::from(Ipv6Addr::from((0xfd00 << 112) | last)));
        [v6(number.into()), v6(1 << 64), v6(2 << 64)]
    };
    let (from, port, target) = (4000.into(), 53.into(), 5353.into());
    let key = |saddr, sport, daddr, dport, zone: Zone| FlowKey {
        saddr,
        daddr,
        sport,
        dport,
        proto: 17,
        zone: zone as u8,
        pad: 0,
    };
    let mut forward = Flow::new_zeroed();
    forward.saddr = client;
    forward.sport = from;
    forward.daddr = backend;
    forward.dport = target;
    forward.partner_zone = Zone::Wire as u8;
    let mut reverse = Flow::new_zeroed();
    reverse.saddr = service;
    reverse.sport = port;
    reverse.daddr = client;
    reverse.dport = from;
    reverse.partner_zone = Zone::Pod as u8;
    [
        (key(client, from, service, port, Zone::Pod), forward),
        (key(backend, target, client, from, Zone::Wire), reverse),
    ]
}
