// SPDX-License-Identifier: Apache-2.0

use super::*;

const SEED: Seed = *b"twelve bytes";

fn members(count: u16) -> Vec<Member> {
    let at = |n: u16| std::net::IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
    (1..=count).map(|n| Member { addr: at(n).into(), port: 8080, weight: 1 }).collect()
}

/// Who has each place.
fn owners(members: &[Member]) -> Vec<Member> {
    table(members, &SEED).into_iter().map(|number| members[usize::from(number)]).collect()
}

fn count(table: &[Member], member: &Member) -> usize {
    table.iter().filter(|owner| *owner == member).count()
}

#[test]
fn sizes_permute_under_cubing() {
    for size in SIZES {
        assert!((2..size).take_while(|n| n * n <= size).all(|n| !size.is_multiple_of(n)), "{size}");
        assert_eq!(size % 3, 2);
    }
    assert_eq!([2, 29, 30, 655, 60_000].map(size), [2999, 2999, 4091, 65_519, 131_063]);
}

#[test]
fn every_member_walks_through_every_place() {
    for size in [2999, 4091] {
        for mut walker in walkers(&members(20), &SEED, size) {
            let mut seen = vec![false; size as usize];
            (0..size).for_each(|_| seen[walker.step(size) as usize] = true);
            assert!(seen.into_iter().all(|seen| seen));
        }
    }
}

#[test]
fn the_order_of_members_changes_nothing() {
    let mut shuffled = members(7);
    shuffled.reverse();
    shuffled.swap(1, 4);
    assert_eq!(owners(&members(7)), owners(&shuffled));
}

#[test]
fn when_one_of_n_leaves_little_more_than_its_places_change_hands() {
    for n in [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 20, 29, 30, 50, 100, 200, 500, 1300] {
        let all = members(n);
        let before = owners(&all);
        let step = usize::from(n).div_ceil(10);
        for leaver in (0..usize::from(n)).step_by(step) {
            let mut rest = all.clone();
            rest.remove(leaver);
            let moved = match size(all.len()) == size(rest.len()) {
                true => {
                    let after = owners(&rest);
                    before.iter().zip(&after).filter(|(was, is)| was != is).count()
                }
                // Of another size: the same hash meets another place.
                false => continue,
            };
            let part = moved as f64 / before.len() as f64;
            let allowed = 1.0 / f64::from(n) + 0.01;
            assert!(part <= allowed, "{n} members: {part:.4} moved, {allowed:.4} allowed");
        }
    }
}

#[test]
fn shares_are_even_and_follow_weights() {
    for n in [2, 3, 10, 100, 1000] {
        let members = members(n);
        let owners = owners(&members);
        let even = owners.len() as f64 / f64::from(n);
        for member in &members {
            let part = count(&owners, member) as f64 / even;
            assert!((0.6..=1.12).contains(&part), "{n} members: one has {part:.2} of its share");
        }
    }
    let mut weighted = members(3);
    weighted[0].weight = 30;
    weighted[1].weight = 10;
    weighted[2].weight = 0;
    let owners = owners(&weighted);
    let part = count(&owners, &weighted[0]) as f64 / owners.len() as f64;
    assert!((0.735..0.765).contains(&part), "{part}");
    assert_eq!(count(&owners, &weighted[2]), 0);
    for member in &mut weighted {
        member.weight = 0;
    }
    assert!(count(&self::owners(&weighted), &weighted[2]) > 0, "all drained: all serve");
}

#[test]
fn another_seed_is_another_table() {
    let other = table(&members(10), b"other twelve");
    let same = other.iter().zip(table(&members(10), &SEED)).filter(|(a, b)| *a == b).count();
    assert!(same < 500, "{same} of 2999");
}

#[test]
fn hashes_use_every_part_of_what_they_are_told() {
    let client = Addr::from(std::net::IpAddr::from([192, 0, 2, 7]));
    let other = Addr::from(std::net::IpAddr::from([192, 0, 2, 8]));
    let base = hash(&SEED, client, Some(40000), 80, 6);
    for changed in [
        hash(&SEED, other, Some(40000), 80, 6),
        hash(&SEED, client, Some(40001), 80, 6),
        hash(&SEED, client, None, 80, 6),
        hash(&SEED, client, Some(40000), 81, 6),
        hash(&SEED, client, Some(40000), 80, 17),
        hash(b"twelve-bytes", client, Some(40000), 80, 6),
        hash(b"twelve byteS", client, Some(40000), 80, 6),
    ] {
        assert_ne!(base >> 16, changed >> 16);
    }
}
