// SPDX-License-Identifier: Apache-2.0

use super::*;

const SEED: Seed = *b"twelve bytes";

fn members(count: u16) -> Vec<Member> {
    let at = |n: u16| std::net::IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
    (1..=count).map(|n| Member { addr: at(n).into(), port: 8080, weight: 1 }).collect()
}

/// Who has each client, of as many as meet every place of a table of `size` alike.
fn owners_up_to(size: u32, members: &[Member]) -> Vec<Member> {
    let table = table(members, &SEED);
    let all = (0..).map(|level| u64::from(BASE << level)).find(|all| *all >= size.into()).unwrap();
    let hashes = (0..all).map(|number| ((number << 32).div_ceil(all)) as u32);
    let number = |hash| table[place(hash, table.len() as u32) as usize];
    hashes.map(|hash| members[usize::from(number(hash))]).collect()
}

fn owners(members: &[Member]) -> Vec<Member> {
    owners_up_to(size(members.len()), members)
}

fn count(table: &[Member], member: &Member) -> usize {
    table.iter().filter(|owner| *owner == member).count()
}

#[test]
fn orders_exist() {
    for (level, prime) in (0..).zip(fill::PRIMES) {
        assert!((2..prime).take_while(|n| n * n <= prime).all(|n| !prime.is_multiple_of(n)));
        assert!(prime >= fill::size(level) && prime % 3 == 2, "{prime}");
        let mut seen = vec![false; prime as usize];
        for mut walker in fill::walkers(level, &members(3), &SEED) {
            (0..prime).for_each(|_| seen[walker.step() as usize] = true);
            assert!(seen.iter().all(|seen| *seen));
            seen.fill(false);
        }
    }
    assert_eq!((0..=DOUBLINGS).map(fill::size).sum::<u32>(), BASE << DOUBLINGS);
}

#[test]
fn more_members_have_larger_tables() {
    let sizes = [1, 30, 31, 100, 300, 1000, 2000, 60_000].map(size);
    assert_eq!(sizes, [2999, 2999, 3018, 4329, 10369, 74615, 174615, 191936]);
    for n in 2..65_535 {
        let (before, now) = (size(n - 1), size(n));
        assert!((before..=before + 100).contains(&now), "{n}");
    }
}

#[test]
fn a_new_place_takes_from_one_other() {
    for size in [BASE, BASE + 1, 3 * BASE, 4 * BASE - 1, 9000] {
        for hash in (0..u32::MAX).step_by(65_521) {
            let (before, now) = (place(hash, size), place(hash, size + 1));
            assert!(before < size && (before == now || now == size));
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
    let some = [40, 60, 80, 90, 100, 110, 130, 180, 181, 182, 250, 300, 400, 700, 1300, 2100];
    for n in (2..34).chain(some) {
        let all = members(n);
        let before = owners(&all);
        for leaver in (0..n).step_by(if n < 200 { n.div_ceil(8).into() } else { n.into() }) {
            let mut rest = all.clone();
            rest.remove(leaver.into());
            let after = owners_up_to(size(all.len()), &rest);
            let moved = before.iter().zip(&after).filter(|(was, is)| was != is).count();
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
            assert!((0.6..=1.35).contains(&part), "{n} members: one has {part:.2} of its share");
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
