// SPDX-License-Identifier: Apache-2.0
//! Tables that give a client the same backend on every node.
//!
//! As in Maglev (Eisenbud et al., NSDI 2016) a packet's hash finds a place in a table, and the
//! place names a backend. More backends have a larger table. So that a larger table is not another
//! one, it grows by linear hashing: each new place takes over half of what an old one had, and the
//! old ones stay as they are.
//!
//! Nodes of different versions must choose alike: what changes a table breaks connections during an
//! upgrade.

mod fill;

use std::hash::Hasher;

use crate::abi::Addr;

/// Twelve bytes, the same on all nodes.
pub type Seed = [u8; 12];

/// Places of the smallest table: 10,000 of them take 60 MB, and it is large enough for few
/// backends, whose shares are a matter of luck in a small table. `MAGLEV_BASE`.
const BASE: u32 = 2999;

/// How often the smallest table can double. `MAGLEV_DOUBLINGS`.
const DOUBLINGS: u32 = 6;

/// Places for each backend: as many backends share the smallest table, and the table grows by as
/// many with each further one.
const PLACES: u32 = 100;

/// But not so that one in fewer clients than this changes its place.
const GROWTH: u32 = 300;

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
    let mut size = BASE;
    let mut doubled = 2 * BASE;
    for _ in (BASE.div_ceil(PLACES) as usize)..members {
        size += (doubled / GROWTH).min(PLACES);
        if size >= BASE << DOUBLINGS {
            return BASE << DOUBLINGS;
        }
        if size >= doubled {
            doubled *= 2;
        }
    }
    size
}

/// The table: at each place the number of a member. Which member that is does not depend on the
/// order of `members`. There must be one at least, and fewer than 65,536.
pub fn table(members: &[Member], seed: &Seed) -> Vec<u16> {
    let size = size(members.len());
    let mut places = Vec::with_capacity(size as usize);
    for level in 0..=DOUBLINGS {
        let room = size as usize - places.len();
        if room > 0 {
            places.extend(fill::level(level, members, seed).into_iter().take(room));
        }
    }
    places
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

/// The place of a packet with this hash in a table of `size` places, `maglev_place` of
/// `bpf/lib/maglev.h`.
///
/// The hash names a place of the largest table. Wherever that one was split off from a place that
/// the table does not have, it is its origin's.
pub fn place(hash: u32, size: u32) -> u32 {
    let mut place = ((u64::from(hash) * u64::from(BASE << DOUBLINGS)) >> 32) as u32;
    for level in (1..=DOUBLINGS).rev() {
        let split = (BASE << (level - 1)) + place / 2;
        if place % 2 == 1 && split < size {
            return split;
        }
        place /= 2;
    }
    place
}

/// Tells tables apart by what is in them.
pub(super) fn fingerprint(places: &[u16]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    places.iter().for_each(|place| hasher.write_u16(*place));
    hasher.finish()
}

#[cfg(test)]
mod tests;
