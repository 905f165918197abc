// SPDX-License-Identifier: Apache-2.0
//! Who gets which place of one level: the smallest table, or what one doubling adds.
//!
//! Each backend goes through the level in an order of its own, all of them in turns, and takes
//! what is free. In the paper a turn is one place taken. Here it is one place looked at, and a
//! backend stops at its share with some slack. A place then goes to whoever comes to it first,
//! which does not depend on the others: when a backend leaves, little but its own places changes
//! hands. The paper's way moves up to 7 % besides with few backends, this one less than 1 %.

use super::{BASE, Member, Seed, digest};

/// For each level the first prime that is no smaller and two more than a multiple of three: orders
/// exist, and cubing permutes.
pub(super) const PRIMES: [u32; 7] = [2999, 2999, 6011, 12_011, 23_993, 48_017, 95_987];

/// How far over its share a backend may come, in thousandths for each backend there is, and at most.
const SLACK: u64 = 6;
const SLACK_MAX: u64 = 200;

/// Places of a level.
pub(super) fn size(level: u32) -> u32 {
    BASE << level.saturating_sub(1)
}

/// At each place of the level the number of a member.
pub(super) fn level(level: u32, members: &[Member], seed: &Seed) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let mut walkers = walkers(level, members, seed);
    let heaviest = walkers.iter().map(|walker| walker.weight).max().unwrap_or(1);
    let mut free = size(level);
    let mut places = vec![FREE; free as usize];
    while free > 0 {
        for walker in &mut walkers {
            walker.credit += walker.weight;
            if walker.credit < heaviest || walker.left == 0 {
                continue;
            }
            walker.credit -= heaviest;
            let Some(place) = places.get_mut(walker.step() as usize) else { continue };
            if *place == FREE {
                *place = walker.number;
                walker.left -= 1;
                free -= 1;
                if free == 0 {
                    break;
                }
            }
        }
    }
    places
}

/// A member on its way through a level.
pub(super) struct Walker {
    number: u16,
    weight: u64,
    /// Turns it has a right to, in `weight`s of the heaviest.
    credit: u64,
    /// Places it may still take.
    left: u64,
    prime: u32,
    /// A cubic polynomial over the field of `prime` elements, by its differences.
    next: [u32; 4],
}

impl Walker {
    pub(super) fn step(&mut self) -> u32 {
        let [place, first, second, third] = self.next;
        let add = |a: u32, b: u32| if a + b >= self.prime { a + b - self.prime } else { a + b };
        self.next = [add(place, first), add(first, second), add(second, third), third];
        place
    }
}

/// In an order that all nodes agree on: it decides between two that come to a place in one turn.
pub(super) fn walkers(level: u32, members: &[Member], seed: &Seed) -> Vec<Walker> {
    let any = members.iter().any(|member| member.weight > 0);
    let weight = |member: &Member| if any { u64::from(member.weight) } else { 1 };
    let total: u64 = members.iter().map(weight).sum();
    let slack = 1000 + (SLACK * members.len() as u64).min(SLACK_MAX);
    // In 65,536ths of a place.
    let share = |weight: u64| ((u64::from(size(level)) * weight * slack) << 16) / (total * 1000);
    let prime = PRIMES[level as usize];

    let mut found: Vec<(u64, &Member, Walker)> = (0u16..)
        .zip(members)
        .filter(|(_, member)| weight(member) > 0)
        .map(|(number, member)| {
            let weight = weight(member);
            let salt = u64::from(level) << 32;
            let [order, shift, factor, up] =
                [0, 1, 2, 3].map(|each| digest(member, seed, salt | each));
            let next = differences(shift, factor, u64::from(prime));
            // Rounded for each by chance: were it the same for all, one member less could give a
            // place more to each of the others.
            let left = (share(weight) + (up & 0xffff)) >> 16;
            (order, member, Walker { number, weight, credit: 0, left, prime, next })
        })
        .collect();
    found.sort_by_key(|(order, member, _)| (*order, member.addr, member.port));
    let mut walkers: Vec<Walker> = found.into_iter().map(|(.., walker)| walker).collect();
    while walkers.iter().map(|walker| walker.left).sum::<u64>() < size(level).into() {
        walkers.iter_mut().for_each(|walker| walker.left += 1);
    }
    walkers
}

/// The first value of `factor * (x + shift)^3 + offset`, and its differences of each degree.
fn differences(shift: u64, factor: u64, prime: u64) -> [u32; 4] {
    let (offset, shift) = ((shift >> 32) % prime, shift % prime);
    let factor = factor % (prime - 1) + 1;
    let cube = |x: u64| {
        let x = (x + shift) % prime;
        (x * x % prime * x % prime * factor + offset) % prime
    };
    let mut row = [0, 1, 2, 3].map(cube);
    for degree in 1..4 {
        for place in (degree..4).rev() {
            row[place] = (row[place] + prime - row[place - 1]) % prime;
        }
    }
    row.map(|value| u32::try_from(value).expect("below the prime"))
}
