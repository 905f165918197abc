// SPDX-License-Identifier: Apache-2.0
//! Tables that give a client the same backend on every node.
//!
//! As in Maglev (Eisenbud et al., NSDI 2016) each backend goes through the table in an order of its
//! own, all of them in turns, and takes what is free. Here a turn is one place looked at, not one
//! place taken, and a backend stops at its share with some slack. A place then goes to whoever
//! comes to it first, which does not depend on the others: when a backend leaves, little but its
//! own places changes hands. The paper's way moves up to 7 % besides with few backends, this one
//! less than 1 %.

use std::hash::Hasher;

use crate::abi::Addr;

/// Twelve bytes, the same on all nodes.
pub type Seed = [u8; 12];

/// Table sizes. Primes, so that orders exist, and two more than a multiple of three, so that cubing
/// permutes. The first holds 10,000 services of ten backends within 64 MB and is large enough for
/// few backends, whose shares are a matter of luck in a small table.
const SIZES: [u32; 7] = [2999, 4091, 8171, 16_361, 32_717, 65_519, 131_063];

/// Places for each backend, while there is a size that large.
const PLACES: u32 = 100;

/// How far over its share a backend may come, in thousandths for each backend there is, and at most.
const SLACK: u64 = 6;
const SLACK_MAX: u64 = 100;

/// One backend of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub addr: Addr,
    /// Host byte order.
    pub port: u16,
    /// Its part of the clients against the others'; 0 gets none while others get some.
    pub weight: u16,
}

/// Places of the table for this many backends.
pub fn size(members: usize) -> u32 {
    let wanted = u32::try_from(members).unwrap_or(u32::MAX).saturating_mul(PLACES);
    let largest = SIZES[SIZES.len() - 1];
    SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(largest)
}

/// The table: at each place the number of a member. Which member that is does not depend on the
/// order of `members`. There must be one at least, and fewer than 65,536.
pub fn table(members: &[Member], seed: &Seed) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let size = size(members.len());
    let mut walkers = walkers(members, seed, size);
    let heaviest = walkers.iter().map(|walker| walker.weight).max().unwrap_or(1);
    let mut places = vec![FREE; size as usize];
    let mut free = size;
    while free > 0 {
        for walker in &mut walkers {
            walker.credit += walker.weight;
            if walker.credit < heaviest || walker.left == 0 {
                continue;
            }
            walker.credit -= heaviest;
            let place = &mut places[walker.step(size) as usize];
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

/// A member on its way through the table.
struct Walker {
    number: u16,
    weight: u64,
    /// Turns it has a right to, in `weight`s of the heaviest.
    credit: u64,
    /// Places it may still take.
    left: u64,
    /// A cubic polynomial over the field of the table's size, by its differences.
    next: [u32; 4],
}

impl Walker {
    fn step(&mut self, size: u32) -> u32 {
        let [place, first, second, third] = self.next;
        let add = |a: u32, b: u32| if a + b >= size { a + b - size } else { a + b };
        self.next = [add(place, first), add(first, second), add(second, third), third];
        place
    }
}

/// In an order that all nodes agree on: it decides between two that come to a place in one turn.
fn walkers(members: &[Member], seed: &Seed, size: u32) -> Vec<Walker> {
    let any = members.iter().any(|member| member.weight > 0);
    let weight = |member: &Member| if any { u64::from(member.weight) } else { 1 };
    let total: u64 = members.iter().map(weight).sum();
    let slack = 1000 + (SLACK * members.len() as u64).min(SLACK_MAX);
    let share = |weight: u64| (u64::from(size) * weight * slack).div_ceil(total * 1000);

    let mut found: Vec<(u64, &Member, Walker)> = (0u16..)
        .zip(members)
        .filter(|(_, member)| weight(member) > 0)
        .map(|(number, member)| {
            let weight = weight(member);
            let [order, shift, factor] = [0, 1, 2].map(|salt| digest(member, seed, salt));
            let next = differences(shift, factor, u64::from(size));
            let left = share(weight);
            (order, member, Walker { number, weight, credit: 0, left, next })
        })
        .collect();
    found.sort_by_key(|(order, member, _)| (*order, member.addr, member.port));
    found.into_iter().map(|(.., walker)| walker).collect()
}

/// The first value of `factor * (x + shift)^3 + offset`, and its differences of each degree.
fn differences(shift: u64, factor: u64, size: u64) -> [u32; 4] {
    let (offset, shift) = ((shift >> 32) % size, shift % size);
    let factor = factor % (size - 1) + 1;
    let cube = |x: u64| {
        let x = (x + shift) % size;
        (x * x % size * x % size * factor + offset) % size
    };
    let mut row = [0, 1, 2, 3].map(cube);
    for degree in 1..4 {
        for place in (degree..4).rev() {
            row[place] = (row[place] + size - row[place - 1]) % size;
        }
    }
    row.map(|value| u32::try_from(value).expect("below the size"))
}

/// A number of the member's own, the same on every node and in every version.
fn digest(member: &Member, seed: &Seed, salt: u64) -> u64 {
    let [low, high] = halves(&member.addr);
    let mut hash = mix(salt ^ first(seed), low);
    hash = mix(hash, high);
    hash = mix(hash, u64::from(member.port) << 32 | u64::from(last(seed)));
    mix(hash, salt) ^ hash >> 29
}

const MUL_1: u64 = 0x9fb2_1c65_1e98_df25;
const MUL_2: u64 = 0xd6e8_feb8_6659_fd93;

fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(MUL_1);
    hash ^ hash >> 32
}

fn halves(addr: &Addr) -> [u64; 2] {
    let whole = u128::from_le_bytes(addr.0);
    [whole as u64, (whole >> 64) as u64]
}

fn first(seed: &Seed) -> u64 {
    u64::from(words(seed)[1]) << 32 | u64::from(words(seed)[0])
}

fn last(seed: &Seed) -> u32 {
    words(seed)[2]
}

/// As programs read it.
fn words(seed: &Seed) -> [u32; 3] {
    let word = |at: usize| u32::from_le_bytes([seed[at], seed[at + 1], seed[at + 2], seed[at + 3]]);
    [word(0), word(4), word(8)]
}

/// What of a packet decides, `maglev_hash` of `bpf/lib/maglev.h`. Ports in host byte order;
/// `client_port` is None for a service with affinity.
pub fn hash(seed: &Seed, client: Addr, client_port: Option<u16>, port: u16, proto: u8) -> u32 {
    let [low, high] = halves(&client);
    let wire = |port: u16| u64::from(u16::from_le_bytes(port.to_be_bytes()));
    let source = client_port.map_or(0, wire);
    let mut hash = mix(mix(first(seed), low), high);
    hash = mix(hash, u64::from(proto) << 32 | source << 16 | wire(port));
    hash = (hash ^ u64::from(last(seed))).wrapping_mul(MUL_2);
    (hash >> 32) as u32
}

/// The place of a packet with this hash in a table of `size` places.
pub fn place(hash: u32, size: u32) -> u32 {
    ((u64::from(hash) * u64::from(size)) >> 32) as u32
}

/// Tells tables apart by what is in them.
pub(super) fn fingerprint(places: &[u16]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    places.iter().for_each(|place| hasher.write_u16(*place));
    hasher.finish()
}

#[cfg(test)]
mod tests;
